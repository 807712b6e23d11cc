"""The wire format: frames, values, names, operations and error codes.

Pure: bytes in, values out. Nothing here opens a socket, reads a clock or logs. Client, server and
machine share these definitions, so that each fact about the wire is stated once.
"""

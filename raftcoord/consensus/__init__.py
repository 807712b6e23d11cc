"""Consensus: from "append this entry" to "committed, here is the result". Only importer of pysyncobj."""

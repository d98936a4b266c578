"""The command line: parse, call the client or an engine verb, present. Nothing heavy is imported before a verb runs."""

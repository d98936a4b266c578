"""The MCP server: a few tools by which an agent starts runs, looks at them and decides. Needs the extra ``mcp``.

Nothing is decided here: a tool is a call of the client in somebody's name.
"""

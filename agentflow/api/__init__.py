"""The HTTP API: who calls is proved by a key, what is asked becomes a call of the client, errors become problems.

Needs the extra ``api``. Nothing is decided here: a module a resource, a route a call.
"""

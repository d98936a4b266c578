"""The embedded stack as a whole: servers, a complete worker and, if wanted, Flower, kept running by one process.

Owns starting, supervising and ending them (`agentflow up`, `down`) and the examination of an installation (`doctor`).
The servers themselves are embedded/'s, what a worker does is worker/'s; nothing here prints.
"""

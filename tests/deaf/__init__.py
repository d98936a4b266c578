"""What makes a worker deaf, loaded into one with ``-I``: it lives, its heartbeat goes on, and it takes nothing."""

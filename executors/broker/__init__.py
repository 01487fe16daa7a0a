"""The broker of an account: the life of its jobs, what to ask a machine, and what the answers mean."""

"""A platform and a digital human for tests and demonstrations: real sockets, no account, no network.

They judge what the rest of the package does, so they share no code with it.
"""

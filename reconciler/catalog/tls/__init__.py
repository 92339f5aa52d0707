"""What TLS asks of a configuration: certificates for its hostnames, and what stays unread.

Each module is one rule, called by `catalog`; `handshake` is for `explain`.
"""

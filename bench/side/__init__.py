"""Beside other proxies, and beside bytes passed on unread: in turn, round by round."""

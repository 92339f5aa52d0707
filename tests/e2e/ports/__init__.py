"""Configurations of other proxies beside what they are in Kakehi: the same requests to both."""

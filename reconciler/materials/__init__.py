"""What entities name by path: certificates, keys, authorities; read, checked, turned into hashes.

Knows `language`.
"""

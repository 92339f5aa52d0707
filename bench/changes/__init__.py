"""What a change costs, a start, and a site of many frontends."""

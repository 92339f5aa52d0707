"""The features of the Gateway API that routes of other control planes would ask of Kakehi."""

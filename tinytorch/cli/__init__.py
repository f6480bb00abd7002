"""What can I type? The command `tito`.

Knows words and numbers on a terminal; everything it does, the other folders do.
"""

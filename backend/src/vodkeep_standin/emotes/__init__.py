"""Emotes and badges: what Helix, BTTV, FFZ and 7TV list, and the hosts with their images."""

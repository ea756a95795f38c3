"""The archive on disk: folders, names, manifests."""

"""What every room stands on: messages for people, files written whole, places, and digests of sources."""

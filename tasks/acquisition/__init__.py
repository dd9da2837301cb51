"""Acquisition: the media of segments over months over all attempts. Transfers: `transport/`."""

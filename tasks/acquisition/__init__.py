"""Acquisition: what becomes of the media of segments over months. How a file comes is known in `transport/`."""

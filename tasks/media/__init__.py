"""Media: the only place that opens foreign media or starts a media process. It knows no manifests."""

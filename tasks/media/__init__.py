"""Media: the only place that opens foreign media or starts a media process. No manifest is known here."""

"""Generated scenes whose sound is caused by what is seen. Their truth is stored beside the media, never inside."""

"""Generated scenes whose sound is caused by what is seen; the truth about them travels beside the media."""

"""In what order, where and when: no logic."""

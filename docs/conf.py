"""Sphinx's configuration: README and documents as HTML. `make check` takes every warning for an error.

The source is the repository itself, not this folder, so that links of README, CONTRIBUTING and SECURITY are held too.
"""

project = "mcgurk"
author = "the maintainers of mcgurk"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md"]
# Not walked through: a virtual environment alone has 50,000 files.
exclude_patterns = [
    ".*",
    "build",
    "demo",
    "docs/recipes",
    "flows",
    "schemas",
    "tasks",
    "tests",
    "training",
    "benchmarks",
]
nitpicky = True  # a link to a page or a heading that is not there is a warning
myst_heading_anchors = 3  # `page.md#a-heading`, as on GitHub
html_theme = "alabaster"
html_theme_options = {"page_width": "1240px", "body_max_width": "1000px"}  # a line of 120 characters fits
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["pages.css"]
html_css_files = ["pages.css"]

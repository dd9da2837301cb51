"""What the families' labels stand below: a small tree with the machine ids that AudioSet's ontology has for it."""

from tasks.sources.scenes.families import LABELS

# Machine id -> name and children. Only what a choice of categories can be tried on; each is a short cut of the
# published tree, where more stands between.
GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "/m/0dgw9r": ("Human sounds", ("/m/07pbtc8", "/m/0l15bq", "/m/09x0r")),
    "/m/0jbk": ("Animal", ("/m/07pggtn", "/m/09ld4")),
    "/m/04rlf": ("Music", ("/m/04szw",)),
    "/m/04szw": ("Musical instrument", ("/m/0l14md", "/m/0395lw", "/m/0342h", "/m/0mkg")),
    "/m/0l14md": ("Percussion", ("/m/02hnl", "/m/0dwtp", "/m/0dwsp")),
    "/m/0395lw": ("Bell", ("/m/03w41f", "/m/026fgl")),
    "/t/dd00041": (
        "Sounds of things",
        (
            "/m/07k1x", "/m/07yv9", "/m/04k94", "/m/02mk9", "/m/03kmc9", "/m/0c2wf", "/m/07qjznl", "/m/0g6b5",
        ),
    ),
    "/m/07k1x": ("Tools", ("/m/03l9g", "/m/01b82r")),
    "/m/07yv9": ("Vehicle", ("/m/07jdr",)),
    "/m/04k94": ("Liquid", ("/m/07r5v4s", "/m/0dv3j")),
    "/m/059j3w": ("Natural sounds", ("/m/06mb1",)),
    "/t/dd00098": ("Source-ambiguous sounds", ("/m/07pqn27",)),
}  # fmt: skip


def nodes() -> list[dict]:
    """The tree in the form in which AudioSet's is published: a list of {id, name, child_ids}."""
    groups = [{"id": mid, "name": name, "child_ids": list(below)} for mid, (name, below) in GROUPS.items()]
    return groups + [{"id": mid, "name": name, "child_ids": []} for mid, name in LABELS.items()]

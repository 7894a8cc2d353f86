"""The tree of sources in CONTRIBUTING.md is the one there is."""

from source_tree import shown_tree, source_tree


def test_each_file_has_its_line():
    assert shown_tree() == source_tree()  # written by python tests/support/source_tree.py


def test_no_folder_is_crowded():
    folders = {}
    for line in source_tree().splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        if name.endswith("/"):
            folders[depth] = name
        else:
            path = "".join(folders[place] for place in range(depth))
            folders.setdefault(path, []).append(name)
    counts = {path: len(names) for path, names in folders.items() if isinstance(path, str)}
    assert len(counts) > 20
    assert max(counts.values()) <= 14, counts

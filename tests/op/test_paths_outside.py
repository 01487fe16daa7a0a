"""An output that lies outside of the leaf is copied: what is stored becomes read-only, and the user's file must not."""

import stat

from dflow_hpc.op.paths import link_or_copy


def test_a_file_of_the_users_is_copied_and_the_leafs_own_is_linked(tmp_path):
    leaf, mine = tmp_path / "leaf", tmp_path / "mine"
    (leaf / "workdir").mkdir(parents=True)
    (leaf / "outputs").mkdir()
    (mine / "d").mkdir(parents=True)
    for file in (leaf / "workdir" / "f", mine / "d" / "f"):
        file.write_text("1")
    (leaf / "workdir" / "link").symlink_to(mine / "d" / "f")
    link_or_copy(leaf / "workdir" / "f", leaf / "outputs" / "own", own=leaf)
    link_or_copy(leaf / "workdir" / "link", leaf / "outputs" / "behind-a-link", own=leaf)
    for _ in range(2):  # named twice
        link_or_copy(mine / "d", leaf / "outputs" / "tree", own=leaf)
    assert (leaf / "outputs" / "own").samefile(leaf / "workdir" / "f")
    for name in ("behind-a-link", "tree/f"):
        (leaf / "outputs" / name).chmod(0o444)
        assert (leaf / "outputs" / name).read_text() == "1"
    assert stat.S_IMODE((mine / "d" / "f").stat().st_mode) & stat.S_IWUSR
    assert (mine / "d" / "f").stat().st_nlink == 1

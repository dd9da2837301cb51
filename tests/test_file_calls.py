"""The recorder of file calls: what strace writes, with threads that interrupt each other, is read in its order."""

from pathlib import Path

from file_calls import Call, read_trace


def hexed(text):
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def told(tmp_path, *lines):
    trace = tmp_path / "trace"
    trace.write_text("".join(f"{line}\n" for line in lines))
    return read_trace(trace, Path("/root"))


def test_a_number_that_is_given_anew_before_its_close_is_told_stays_open(tmp_path):
    one = hexed("/root/one")
    two = hexed("/root/two")
    calls = told(
        tmp_path,
        "1 clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 2",
        f'1 openat(AT_FDCWD, "{one}", O_RDONLY) = 3<{one}>',
        f"1 close(3<{one}> <unfinished ...>",
        f'2 openat(AT_FDCWD, "{two}", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3<{two}>',
        "1 <... close resumed>) = 0",
        f'2 write(3<{two}>, "{hexed("text")}", 4 <unfinished ...>',
        "2 <... write resumed>) = 4",
    )

    assert calls == [
        Call("open", "/root/two"),
        Call("truncate", "/root/two"),
        Call("write", "/root/two", b"text", 0),
    ]


def test_places_in_a_file_follow_what_moved_them(tmp_path):
    path = hexed("/root/one")
    calls = told(
        tmp_path,
        f'1 openat(AT_FDCWD, "{path}", O_RDWR|O_CREAT, 0666) = 3<{path}>',
        f'1 write(3<{path}>, "{hexed("abc")}", 3) = 3',
        f"1 lseek(3<{path}>, 1, SEEK_SET) = 1",
        f'1 write(3<{path}>, "{hexed("x")}", 1) = 1',
        f'1 pwrite64(3<{path}>, "{hexed("y")}", 1, 7) = 1',
        f"1 fsync(3<{path}>) = 0",
        f'1 rename("{path}", "{hexed("/root/two")}") = 0',
        f'1 unlink("{hexed("/elsewhere")}") = 0',
    )

    assert [(call.kind, call.data, call.offset) for call in calls[1:4]] == [
        ("write", b"abc", 0),
        ("write", b"x", 1),
        ("write", b"y", 7),
    ]
    assert calls[4:] == [Call("sync", "/root/one"), Call("rename", "/root/one", other="/root/two")]

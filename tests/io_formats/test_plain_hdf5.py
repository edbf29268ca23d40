"""HDF5 of other programs: nothing outside the file is looked at, wherever its links lead."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from dpk_core.errors import FileFormatError
from dpk_io_formats.plain_hdf5 import array, child, dataset, is_there, link_of, opened

ELSEWHERE = {
    "soft, nothing there": h5py.SoftLink("/nothing"),
    "soft": h5py.SoftLink("/numbers"),
    "external, nothing there": h5py.ExternalLink("no-such-file.h5", "/numbers"),
    "external": h5py.ExternalLink("outside.h5", "/numbers"),
}


@pytest.fixture(params=sorted(ELSEWHERE))
def linked(request, tmp_path):
    """A file with numbers, and a link to somewhere else."""
    for name in ("inside.h5", "outside.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["numbers"] = np.arange(3.0)
    with h5py.File(tmp_path / "inside.h5", "a") as file:
        file["link"] = ELSEWHERE[request.param]
    return tmp_path / "inside.h5"


@pytest.mark.parametrize("look", [child, dataset, array])
def test_a_link_is_refused_alike_whether_or_not_it_leads_anywhere(linked, look):
    with opened(linked) as file:
        assert look(file, "numbers", linked) is not None
        with pytest.raises(FileFormatError, match="'link' is a link to elsewhere"):
            look(file, "link", linked)


def test_a_link_is_there_wherever_it_leads(linked):
    with opened(linked) as file:
        assert is_there(file, "link")
        assert is_there(file, "numbers")
        assert not is_there(file, "nothing")
        assert isinstance(link_of(file, "numbers"), h5py.HardLink)
        assert isinstance(link_of(file, "link"), (h5py.SoftLink, h5py.ExternalLink))
        assert link_of(file, "nothing") is None


def test_links_say_where_they_lead(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["soft"] = h5py.SoftLink("/größe")
        file["external"] = h5py.ExternalLink("b.h5", "/größe")
        assert link_of(file, "soft").path == "/größe"
        assert link_of(file, "external").filename == "b.h5"
        assert link_of(file, "external").path == "/größe"


def test_data_in_other_files_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    np.arange(4.0).tofile(tmp_path / "raw.bin")
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", (4,), "f8", external=[("raw.bin", 0, 32)])
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource("b.h5", "numbers", (4,))
        file.create_virtual_dataset("virtual", layout)
    for key in ("raw", "virtual"):
        with opened(path) as file, pytest.raises(FileFormatError, match="in other files"):
            child(file, key, path)


def test_what_is_missing_names_the_keys_and_what_was_expected(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(3.0)
        file.create_group("group")
    for key in ("positions", "group"):
        with opened(path) as file, pytest.raises(FileFormatError) as caught:
            dataset(file, key, path, "labels of LEAP")
        assert f"no dataset {key!r}; expected labels of LEAP" in str(caught.value)
        assert "group, numbers" in str(caught.value)

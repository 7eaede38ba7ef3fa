"""What the kernel's files say of this host's memory, on trees made for each case."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from agentherd_workers.admission.memory import HostMemory, MemoryLimit
from agentherd_workers.kernel_files import cgroup_directories, number_in, numbers_in

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB
V1_UNLIMITED = 9223372036854771712
"""What cgroup v1 shows where there is no limit: LONG_MAX, rounded down to pages."""

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "36 25 0:32 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory"
MEMINFO = """MemTotal:       16777216 kB
MemFree:          524288 kB
MemAvailable:    8388608 kB
SwapTotal:      67108864 kB
SwapFree:       67108864 kB
HugePages_Total:       0
"""


class Host:
    """A file system tree such as the kernel shows."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write({"proc/meminfo": MEMINFO})

    def write(self, files: Mapping[str, str | int]) -> "Host":
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}")
        return self

    def within(self, cgroup: str, *mounts: str) -> "Host":
        """Put this process into cgroups, with these lines of mountinfo."""
        return self.write(
            {"proc/self/cgroup": cgroup, "proc/self/mountinfo": "".join(f"{m}\n" for m in mounts)}
        )

    @property
    def memory(self) -> HostMemory:
        return HostMemory(self.root)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """16 GiB of RAM, half of it available, and a lot of swap."""
    return Host(tmp_path)


def test_without_cgroups_it_is_the_machine_and_swap_never_counts(host: Host) -> None:
    assert host.memory.limit() == MemoryLimit(16 * GiB, "MemTotal of /proc/meminfo")
    assert host.memory.available_bytes() == 8 * GiB


def test_v2_limit(host: Host) -> None:
    host.within("0::/system.slice/herd.service\n", V2_MOUNT)
    own = "sys/fs/cgroup/system.slice/herd.service"
    host.write({f"{own}/memory.max": 4 * GiB, f"{own}/memory.high": "max\n"})
    assert host.memory.limit() == MemoryLimit(4 * GiB, f"/{own}/memory.max")


def test_v2_without_a_limit_is_the_machine(host: Host) -> None:
    host.within("0::/a\n", V2_MOUNT).write({"sys/fs/cgroup/a/memory.max": "max\n"})
    assert host.memory.limit().source == "MemTotal of /proc/meminfo"


def test_v2_a_limit_above_the_machine_is_none(host: Host) -> None:
    host.within("0::/a\n", V2_MOUNT).write(
        {"sys/fs/cgroup/a/memory.max": 64 * GiB, "sys/fs/cgroup/a/memory.current": 63 * GiB}
    )
    assert host.memory.limit().size_bytes == 16 * GiB
    assert host.memory.available_bytes() == 8 * GiB


@pytest.mark.parametrize(
    ("limits", "smallest"),
    [
        ({"a": 2, "a/b": 4, "a/b/c": 6}, "a"),
        ({"a": 6, "a/b": 2, "a/b/c": 4}, "a/b"),
        ({"a": 6, "a/b": 4, "a/b/c": 2}, "a/b/c"),
    ],
)
def test_v2_the_smallest_of_nested_limits_counts(
    host: Host, limits: dict[str, int], smallest: str
) -> None:
    host.within("0::/a/b/c\n", V2_MOUNT)
    host.write({f"sys/fs/cgroup/{path}/memory.max": size * GiB for path, size in limits.items()})
    found = host.memory.limit()
    assert found == MemoryLimit(2 * GiB, f"/sys/fs/cgroup/{smallest}/memory.max")


def test_v2_memory_high_is_a_limit_too_and_is_named(host: Host) -> None:
    host.within("0::/a\n", V2_MOUNT)
    own = "sys/fs/cgroup/a"
    host.write({f"{own}/memory.max": 4 * GiB, f"{own}/memory.high": 3 * GiB})
    assert host.memory.limit() == MemoryLimit(3 * GiB, f"/{own}/memory.high")


def test_v2_available_is_what_the_limit_leaves_with_its_reclaimable_cache(host: Host) -> None:
    host.within("0::/a\n", V2_MOUNT)
    host.write(
        {
            "sys/fs/cgroup/a/memory.max": 4 * GiB,
            "sys/fs/cgroup/a/memory.current": 3 * GiB,
            "sys/fs/cgroup/a/memory.stat": f"anon {GiB}\nfile {2 * GiB}\ninactive_file {GiB}\n",
        }
    )
    assert host.memory.available_bytes() == 2 * GiB


def test_available_is_never_more_than_the_machine_has_nor_less_than_nothing(host: Host) -> None:
    host.within("0::/a\n", V2_MOUNT)
    own = "sys/fs/cgroup/a"
    host.write({f"{own}/memory.max": 12 * GiB, f"{own}/memory.current": GiB})
    assert host.memory.available_bytes() == 8 * GiB
    host.write({f"{own}/memory.current": 13 * GiB})
    assert host.memory.available_bytes() == 0
    host.write({f"{own}/memory.current": GiB, f"{own}/memory.stat": f"inactive_file {2 * GiB}\n"})
    assert host.memory.available_bytes() == 8 * GiB, "a cache above the charge is no extra room"


def test_v2_a_container_that_sees_a_part_of_the_hierarchy_as_its_root(host: Host) -> None:
    """No cgroup namespace: paths are the machine's, the mount shows only ours."""
    mount = V2_MOUNT.replace(" / /sys", " /kubepods/pod1 /sys")
    host.within("0::/kubepods/pod1/main\n", mount)
    host.write({"sys/fs/cgroup/main/memory.max": 3 * GiB, "sys/fs/cgroup/memory.max": 2 * GiB})
    assert host.memory.limit() == MemoryLimit(2 * GiB, "/sys/fs/cgroup/memory.max")


def test_v2_a_container_with_a_namespace_of_its_own(host: Host) -> None:
    host.within("0::/\n", V2_MOUNT).write({"sys/fs/cgroup/memory.max": 2 * GiB})
    assert host.memory.limit() == MemoryLimit(2 * GiB, "/sys/fs/cgroup/memory.max")


def test_a_cgroup_outside_of_what_is_mounted_falls_back_to_the_top(host: Host) -> None:
    mount = V2_MOUNT.replace(" / /sys", " /docker/abc /sys")
    host.within("0::/docker/abcdef\n", mount).write({"sys/fs/cgroup/memory.max": 2 * GiB})
    assert host.memory.limit().size_bytes == 2 * GiB


def test_v1_limit_with_reclaimable_cache(host: Host) -> None:
    host.within("9:memory:/herd\n4:cpu,cpuacct:/\n", V1_MOUNT)
    own = "sys/fs/cgroup/memory/herd"
    host.write(
        {
            f"{own}/memory.limit_in_bytes": 4 * GiB,
            f"{own}/memory.usage_in_bytes": 3 * GiB,
            f"{own}/memory.stat": f"inactive_file 1\ntotal_inactive_file {GiB}\n",
        }
    )
    assert host.memory.limit() == MemoryLimit(4 * GiB, f"/{own}/memory.limit_in_bytes")
    assert host.memory.available_bytes() == 2 * GiB


def test_v1_unlimited_is_the_machine(host: Host) -> None:
    host.within("9:memory:/herd\n", V1_MOUNT)
    host.write({"sys/fs/cgroup/memory/herd/memory.limit_in_bytes": V1_UNLIMITED})
    assert host.memory.limit().source == "MemTotal of /proc/meminfo"
    assert host.memory.available_bytes() == 8 * GiB


def test_v1_a_smaller_parent_counts(host: Host) -> None:
    host.within("9:memory:/a/b\n", V1_MOUNT)
    host.write(
        {
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": 2 * GiB,
            "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": V1_UNLIMITED,
            "sys/fs/cgroup/memory/memory.limit_in_bytes": V1_UNLIMITED,
        }
    )
    assert host.memory.limit().source == "/sys/fs/cgroup/memory/a/memory.limit_in_bytes"


def test_v1_as_docker_mounts_it(host: Host) -> None:
    """The path is the machine's, the mount point shows our own cgroup at its top."""
    mount = V1_MOUNT.replace(" / /sys", " /docker/0123abc /sys").replace("rw,memory", "ro,memory")
    host.within("11:memory:/docker/0123abc\n1:name=systemd:/docker/0123abc\n", mount)
    host.write({"sys/fs/cgroup/memory/memory.limit_in_bytes": GiB})
    assert host.memory.limit() == MemoryLimit(GiB, "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@pytest.mark.parametrize("mounted_with", ["memory", "cpu,memory", "memory,hugetlb"])
def test_v1_controllers_mounted_together(host: Host, mounted_with: str) -> None:
    mount = V1_MOUNT.replace("rw,memory", f"rw,{mounted_with}")
    host.within(f"3:{mounted_with}:/x\n", mount)
    host.write({"sys/fs/cgroup/memory/x/memory.limit_in_bytes": GiB})
    assert host.memory.limit().size_bytes == GiB


@pytest.mark.parametrize(("v1", "v2", "smaller"), [(2, 4, "memory/a"), (4, 2, "unified/u")])
def test_hybrid_both_hierarchies_are_read(host: Host, v1: int, v2: int, smaller: str) -> None:
    unified = V2_MOUNT.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ")
    named = "31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd"
    host.within("9:memory:/a\n1:name=systemd:/s\n0::/u\n", named, V1_MOUNT, unified)
    host.write(
        {
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": v1 * GiB,
            "sys/fs/cgroup/unified/u/memory.max": v2 * GiB,
        }
    )
    found = host.memory.limit()
    assert found.size_bytes == 2 * GiB
    assert smaller in found.source


def test_mount_points_with_escaped_characters(host: Host) -> None:
    mount = V2_MOUNT.replace("/sys/fs/cgroup ", r"/mnt/my\040cgroups\011x\134y ")
    host.within("0::/a b\n", mount)
    host.write({"mnt/my cgroups\tx\\y/a b/memory.max": GiB})
    assert host.memory.limit().size_bytes == GiB


@pytest.mark.parametrize(
    ("cgroup", "mounts"),
    [
        ("", [V2_MOUNT]),
        ("nonsense\n\n::\n0:\n", [V2_MOUNT]),
        ("0::/a\n", []),
        ("0::/a\n", ["", "nonsense", "1 2 3 - cgroup2", "30 23 0:26 / /x rw - tmpfs"]),
        ("0::/../../x\n", [V2_MOUNT]),
        ("0::/a (deleted)\n", [V2_MOUNT]),
    ],
)
def test_odd_content_sets_no_limit(host: Host, cgroup: str, mounts: list[str]) -> None:
    host.within(cgroup, *mounts)
    assert host.memory.limit().size_bytes == 16 * GiB
    assert host.memory.available_bytes() == 8 * GiB


def test_a_mount_without_a_source_hides_no_other(host: Host) -> None:
    nameless = "40 23 0:50 / /mnt rw - tmpfs  rw,size=4k"
    host.within("0::/a:b\n", nameless, V2_MOUNT)
    host.write({"sys/fs/cgroup/a:b/memory.max": GiB})
    assert host.memory.limit().size_bytes == GiB


@pytest.mark.parametrize("content", ["", "max\n", "-1\n", "lots\n", "1 2\n", "4096 extra"])
def test_a_limit_that_is_no_number_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "memory.max").write_text(content)
    assert number_in(tmp_path / "memory.max") is None


def test_lines_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "memory.stat").write_text("\nanon 5\nfile x\nslab\nkernel 6 kB\n")
    assert numbers_in(tmp_path / "memory.stat") == {"anon": 5, "kernel": 6}
    assert numbers_in(tmp_path / "absent") == {}


def test_pressure(host: Host) -> None:
    host.write(
        {
            "proc/pressure/memory": "some avg10=12.34 avg60=1.00 avg300=0.10 total=99\n"
            "full avg10=3.00 avg60=0.50 avg300=0.05 total=44\n"
        }
    )
    pressure = host.memory.pressure()
    assert pressure is not None
    assert (pressure.some_percent, pressure.full_percent) == (12.34, 3.0)


def test_a_kernel_without_pressure(host: Host) -> None:
    assert host.memory.pressure() is None


@pytest.mark.parametrize("content", ["", "\n\n", "some total=3\n", "avg10\n"])
def test_odd_pressure_is_calm(host: Host, content: str) -> None:
    host.write({"proc/pressure/memory": content})
    pressure = host.memory.pressure()
    assert pressure is not None
    assert (pressure.some_percent, pressure.full_percent) == (0.0, 0.0)


def test_this_machine() -> None:
    memory = HostMemory()
    limit = memory.limit()
    assert limit.size_bytes >= memory.available_bytes() > 0
    assert Path(limit.source).is_file() or "MemTotal" in limit.source
    assert all(path.is_dir() for path in cgroup_directories(Path("/"), ""))

"""Which test shows what with which real target: what must work with each of them, as a table.

``test_acceptance.py`` sees that nothing is missing in it, and that each test is there. "Wrong credentials" is, where nobody
asks for any, an account that isn't allowed to.
"""
from __future__ import annotations

CELLS = ("grow and call", "own module", "chain through it", "wrong credentials", "no Python there", "gone in mid-call",
         "nothing left behind")  # fmt: skip


def _container(kind: str, entered: bool = True) -> tuple[str, ...]:
    """Of test_containers.py.

    Args:
        entered: something runs in it already, so that it can end.
    """
    file = "test_containers.py::test_"
    gone = f"{file}gone_in_mid_call[{kind}]" if entered else f"{file}ended_from_outside[{kind}]"
    return (f"{file}a_node_in_a_container[{kind}]", f"{file}a_node_in_a_container[{kind}]", f"{file}a_chain_through_it[{kind}]",
            f"{file}an_account_that_may_not[{kind}]", f"{file}no_python_in_there[None-{kind}]", gone,
            f"{file}ended_from_outside[{kind}]")  # fmt: skip


def _without_daemon(how: str, *grown: str) -> tuple[str, ...]:
    """Of test_containers.py."""
    file = "test_containers.py::test_"
    ended = f"{file}ended_from_outside_without_a_daemon[{how}]"
    return (file + grown[0], ended, ended, f"{file}who_is_not_root", file + grown[-1], ended, ended)


def _account(how: str, grown: str) -> tuple[str, ...]:
    """Of test_accounts.py."""
    file = "test_accounts.py::test_"
    names = ("with_a_password", "with_a_password", "a_wrong_password", "no_python_there", "ended_from_outside")
    return (grown, *(f"{file}{name}[{how}]" for name in names), f"test_sudo.py::test_nothing_is_left[{how}]")


def _booted(connector: str, way: str, refused: str = "from_an_account_by_a_rule_of_polkit") -> tuple[str, ...]:
    """Of test_booted.py."""
    file = "test_booted.py::test_"
    ended = f"{file}ended_from_outside[{connector}]"
    grown = f"{file}every_way_there[{way}]"
    return (grown, grown, grown, file + refused, f"{file}what_is_not_there", ended, f"{file}killed_in_mid_call[{connector}]")


_SSH, _SERVERS, _DROPBEAR = "test_ssh.py::test_", "test_ssh_servers.py::test_", "test_dropbear.py::test_"
_ELSEWHERE, _KUBECTL = "test_sudo_rs_pkexec.py::test_", "test_kubectl.py::test_"

#: Target -> for each cell the test that shows it.
COVERED: dict[str, tuple[str, ...]] = {
    "sshd": (f"{_SERVERS}a_shared_connection_as_a_connector", f"{_SERVERS}a_node_is_ended_from_outside",
             f"{_SERVERS}by_growing_through_a_node", f"{_SSH}wrong_password", f"{_SSH}no_python_there",
             f"{_SERVERS}the_host_ends_the_session_in_mid_call[9]", f"{_SERVERS}nothing_is_left_on_the_host"),
    "dropbear": (f"{_DROPBEAR}by_key", f"{_DROPBEAR}a_chain_through_it", f"{_DROPBEAR}a_chain_through_it",
                 f"{_DROPBEAR}a_wrong_password_is_sent_once", f"{_DROPBEAR}no_python_there[nopython]",
                 f"{_DROPBEAR}the_session_is_ended_in_mid_call", f"{_DROPBEAR}ended_from_outside"),
    "sudo": _account("sudo", "test_accounts.py::test_sudo_as_a_connector"),
    "su": _account("su", "test_sudo.py::test_as_a_connector[su]"),
    "doas": _account("doas", "test_sudo.py::test_as_a_connector[doas]"),
    "sudo-rs": (f"{_ELSEWHERE}sudo_rs_as_a_connector", f"{_ELSEWHERE}sudo_rs_with_a_password",
                f"{_ELSEWHERE}sudo_rs_with_a_password", f"{_ELSEWHERE}what_sudo_rs_refuses",
                f"{_ELSEWHERE}what_sudo_rs_refuses", f"{_ELSEWHERE}sudo_rs_ended_from_outside",
                f"{_ELSEWHERE}sudo_rs_ended_from_outside"),
    "pkexec": (f"{_ELSEWHERE}pkexec", f"{_ELSEWHERE}pkexec", f"{_ELSEWHERE}pkexec", f"{_ELSEWHERE}what_pkexec_refuses",
               f"{_ELSEWHERE}what_pkexec_refuses", f"{_ELSEWHERE}pkexec_ended_from_outside",
               f"{_ELSEWHERE}pkexec_ended_from_outside"),
    **{kind: _container(kind) for kind in ("podman", "docker", "lxc", "lxd", "incus")},
    "buildah": _container("buildah", entered=False),
    "nspawn": _without_daemon("nspawn", "nspawn", "nspawn_without_a_python[None]"),
    "chroot": _without_daemon("chroot", "chroot"),
    "unshare": _without_daemon("unshare", "unshare"),
    "nsenter": _without_daemon("nsenter", "nsenter_by_pid", "nsenter_by_name[docker]"),
    "run0": _booted("run0", "run0"),
    "machinectl": _booted("machinectl", "machinectl rmtinner"),
    "kubectl": (f"{_KUBECTL}a_node_through_it", f"{_KUBECTL}a_node_through_it", f"{_KUBECTL}a_node_through_it",
                f"{_KUBECTL}what_it_says[options4-AuthenticationError-doesn't know who]", f"{_KUBECTL}no_cluster_and_no_python",
                f"{_KUBECTL}gone_in_mid_call", f"{_KUBECTL}ended_from_outside"),
}  # fmt: skip

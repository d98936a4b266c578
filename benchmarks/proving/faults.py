"""The faults: what each breaks, for how long, and how it is mended.

Owns the list. A fault breaks one thing and says whose work it may have ended; when it comes is the monkey's matter.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from proving.arena import ALL_WORKERS, Arena, Undo
from proving.fleet import kill

REDIS_AWAY = "redis_away"
MINUTE_SECONDS = 60.0
WORKERS, BEAT, REDIS, POSTGRES, STORE, NOTHING = "workers", "beat", "redis", "postgres", "store", "nothing"
LINE, CUT_OFF = "line", "w1"
"""What leads to Postgres, and the worker that goes by it."""
_LEAST_MEMORY = 1


@dataclass(frozen=True)
class Broken:
    """What a fault did: whose attempts it may have ended, for the record, and how to mend it."""

    hits: str | None = None
    note: str = ""
    undo: Undo | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Fault:
    """A kind of fault; ``breaks`` is None where there is nothing to break at the moment."""

    kind: str
    what: str
    breaks: str
    make: Callable[[Arena], Broken | None]


def _worker_killed(arena: Arena) -> Broken | None:
    worker = arena.some_worker()
    if worker is None:
        return None
    kill(worker.pid, signal.SIGKILL)
    return Broken(f"{worker.name}@%", worker.name)


def _worker_wiped(arena: Arena) -> Broken | None:
    worker = arena.some_worker()
    if worker is None:
        return None
    for pid in worker.own():
        kill(pid, signal.SIGKILL)
    return Broken(f"{worker.name}@%", worker.name)


def _all_wiped(arena: Arena) -> Broken | None:
    pids = [pid for member in arena.fleet.members for pid in [*member.supervisors(), *member.own()]]
    for pid in pids:
        kill(pid, signal.SIGKILL)
    return Broken(ALL_WORKERS, f"{len(pids)} processes")


def _child_killed(arena: Arena) -> Broken | None:
    worker = arena.some_worker()
    child = arena.some_of(worker.pool()) if worker else None
    if worker is None or child is None:
        return None
    kill(child, signal.SIGKILL)
    return Broken(f"{worker.name}@%:{child}", worker.name)


def _supervisor_killed(arena: Arena) -> Broken | None:
    worker = arena.some_worker()
    supervisor = arena.some_of(worker.supervisors()) if worker else None
    if worker is None or supervisor is None:
        return None
    owner = Path(f"/proc/{supervisor}/stat")
    with suppress(OSError):
        parent = owner.read_text(encoding="ascii").rsplit(")", 1)[1].split()[1]
        kill(supervisor, signal.SIGKILL)
        return Broken(f"{worker.name}@%:{parent}", worker.name)
    return None


def _leader_killed(arena: Arena) -> Broken | None:
    leader = arena.leader()
    dispatchers = leader.dispatcher() if leader else []
    for pid in dispatchers:
        kill(pid, signal.SIGKILL)
    return Broken(None, leader.name) if leader and dispatchers else None


def _leader_frozen(arena: Arena) -> Broken | None:
    leader = arena.leader()
    dispatchers = leader.dispatcher() if leader else []
    return _frozen(dispatchers, None, leader.name, arena.rng.uniform(4, 8)) if leader and dispatchers else None


def _worker_frozen(arena: Arena) -> Broken | None:
    worker = arena.some_worker()
    if worker is None:
        return None
    return _frozen(worker.own(), f"{worker.name}@%", worker.name, arena.lease_seconds + arena.rng.uniform(1, 5))


def _host_frozen(arena: Arena) -> Broken | None:
    worker = arena.some_worker()
    if worker is None:
        return None
    pids = [*worker.supervisors(), *worker.own()]
    return _frozen(pids, f"{worker.name}@%", worker.name, arena.lease_seconds + arena.rng.uniform(1, 5))


def _frozen(pids: list[int], hits: str | None, note: str, seconds: float) -> Broken:
    for pid in pids:
        kill(pid, signal.SIGSTOP)

    def thaw() -> None:
        for pid in pids:
            kill(pid, signal.SIGCONT)

    return Broken(hits, note, thaw, seconds)


def _worker_frozen_then_killed(arena: Arena) -> Broken | None:
    """Freeze only the main process: what it has popped and its children never got is lost with it."""
    worker = arena.some_worker()
    if worker is None:
        return None
    main, pids = worker.pid, worker.own()
    kill(main, signal.SIGSTOP)

    def finish() -> None:
        for pid in pids:
            kill(pid, signal.SIGKILL)

    return Broken(f"{worker.name}@%", worker.name, finish, arena.rng.uniform(1, 2.5))


def _worker_cut_off(arena: Arena) -> Broken | None:
    """Let the one worker that reaches Postgres by a line of its own hear and say nothing there; its commands go on."""
    cut = ExitStack()
    cut.enter_context(arena.ground.line.cut())
    return Broken(f"{CUT_OFF}@%", CUT_OFF, cut.close, arena.lease_seconds + arena.rng.uniform(1, 5))


def _worker_deployed(arena: Arena) -> Broken | None:
    worker = arena.some_worker()
    if worker is None:
        return None
    kill(worker.pid, signal.SIGTERM)
    return Broken(f"{worker.name}@%", worker.name)


def _beat_killed(arena: Arena) -> Broken | None:
    beat = arena.fleet.find("beat")
    if beat.pid is None:
        return None
    kill(beat.pid, signal.SIGKILL)
    return Broken()


def _second_beat(arena: Arena) -> Broken | None:
    second = arena.fleet.beat("beat2")
    return Broken(None, "", lambda: arena.fleet.dismiss(second), arena.rng.uniform(8, 15))


def _flushed(arena: Arena) -> Broken | None:
    arena.ground.redis.flush()
    return Broken()


def _flushed_again(arena: Arena) -> Broken | None:
    arena.ground.redis.flush()
    return Broken(None, "twice", arena.ground.redis.flush, arena.rng.uniform(0.2, 2))


def _clients_cut(arena: Arena) -> Broken | None:
    return Broken(None, f"{arena.ground.redis.cut_all()} connections")


def _redis_killed(arena: Arena) -> Broken | None:
    arena.ground.redis.kill()
    return Broken(None, "", arena.ground.redis.start, arena.rng.uniform(1, 6))


def _redis_away(arena: Arena) -> Broken | None:
    arena.ground.redis.kill()

    def start_empty() -> None:
        arena.ground.redis.wipe()
        arena.ground.redis.start()

    return Broken(None, "", start_empty, MINUTE_SECONDS)


def _redis_emptied(arena: Arena) -> Broken | None:
    arena.ground.redis.kill()

    def start_empty() -> None:
        arena.ground.redis.wipe()
        arena.ground.redis.start()

    return Broken(None, "", start_empty, arena.rng.uniform(1, 6))


def _redis_set_back(arena: Arena) -> Broken | None:
    if not arena.old_data.exists():
        return None
    arena.ground.redis.kill()

    def start_old() -> None:
        arena.ground.redis.put_back(arena.old_data)
        arena.ground.redis.start()
        arena.is_stash_kept = False

    return Broken(None, "", start_old, arena.rng.uniform(0.5, 2))


def _redis_frozen(arena: Arena) -> Broken | None:
    arena.ground.redis.freeze()
    return Broken(None, "", arena.ground.redis.thaw, arena.rng.uniform(2, 12))


def _redis_full(arena: Arena) -> Broken | None:
    arena.ground.redis.fill()
    return Broken(None, "", arena.ground.redis.empty, arena.rng.uniform(2, 6))


def _messages_doubled(arena: Arena) -> Broken | None:
    doubled = 0
    with arena.ground.redis.client() as client:
        for queue in ("control", "commands", "models"):
            waiting = client.lrange(queue, 0, -1)
            doubled += len(waiting)
            if waiting:
                client.lpush(queue, *waiting)
    return Broken(None, f"{doubled} messages") if doubled else None


def _messages_late(arena: Arena) -> Broken | None:
    pushed = 0
    with arena.ground.redis.client() as client:
        for queue, messages in arena.stash.items():
            late = arena.rng.sample(messages, len(messages))[:60]
            pushed += len(late)
            if late:
                client.lpush(queue, *late)
    return Broken(None, f"{pushed} messages") if pushed else None


def _postgres_crashed(arena: Arena) -> Broken | None:
    arena.ground.postgres.kill(signal.SIGQUIT)
    arena.ground.postgres.start()
    return Broken(ALL_WORKERS)


def _connections_cut(arena: Arena) -> Broken | None:
    with psycopg.connect(arena.ground.postgres.url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE usename = current_user AND pid <> pg_backend_pid()"
        ).fetchone()
    return Broken(ALL_WORKERS, f"{row[0] if row else 0} connections")


def _postgres_away(arena: Arena) -> Broken | None:
    arena.ground.postgres.stop()
    return Broken(ALL_WORKERS, "", arena.ground.postgres.start, arena.lease_seconds + arena.rng.uniform(1, 4))


def _postgres_frozen(arena: Arena) -> Broken | None:
    arena.ground.postgres.freeze()
    return Broken(ALL_WORKERS, "", arena.ground.postgres.thaw, arena.rng.uniform(1, arena.lease_seconds / 2))


def _store_gone(arena: Arena) -> Broken | None:
    content, away = arena.ground.content, arena.ground.home / "content-away"
    content.rename(away)
    content.touch()

    def bring_back() -> None:
        content.unlink()
        away.rename(content)

    return Broken(ALL_WORKERS, "", bring_back, arena.rng.uniform(1, 4))


def _store_read_only(arena: Arena) -> Broken | None:
    """Remount it, which takes root; as anybody else close its folders."""
    content = arena.ground.content
    if os.geteuid() == 0:
        if not _mount("--bind", str(content), str(content)):
            return None
        if not _mount("-o", "remount,ro,bind", str(content)):
            _unmount(content)
            return None
        return Broken(ALL_WORKERS, "", lambda: _unmount(content), arena.rng.uniform(1, 4))
    folders = [content, *(path for path in content.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)

    def open_again() -> None:
        for folder in folders:
            with suppress(FileNotFoundError):
                folder.chmod(0o700)

    return Broken(ALL_WORKERS, "", open_again, arena.rng.uniform(1, 4))


def _mount(*arguments: str) -> bool:
    return subprocess.run(["/bin/mount", *arguments], capture_output=True, check=False).returncode == 0


def _unmount(path: Path) -> None:
    # Lazily: who holds a file open in it must not keep the store closed to all.
    subprocess.run(["/bin/umount", "-l", str(path)], capture_output=True, check=True)


def _poison(arena: Arena) -> Broken | None:
    arena.crowd.ask_for_poison()
    return Broken(ALL_WORKERS)


FAULTS: Mapping[str, Fault] = {
    fault.kind: fault
    for fault in (
        Fault("worker_killed", "SIGKILL of a worker's main process", WORKERS, _worker_killed),
        Fault("worker_wiped", "SIGKILL of all processes of a worker", WORKERS, _worker_wiped),
        Fault("child_killed", "SIGKILL of a pool child", NOTHING, _child_killed),
        Fault("supervisor_killed", "SIGKILL of a supervisor of commands", NOTHING, _supervisor_killed),
        Fault("worker_frozen", "a worker frozen past its lease, then thawed", WORKERS, _worker_frozen),
        Fault("host_frozen", "the same with its supervisors", WORKERS, _host_frozen),
        Fault("frozen_then_killed", "a worker frozen, then killed", WORKERS, _worker_frozen_then_killed),
        Fault("worker_cut_off", "a worker cut off from Postgres past its lease", LINE, _worker_cut_off),
        Fault("worker_deployed", "SIGTERM to a worker", WORKERS, _worker_deployed),
        Fault("all_wiped", "SIGKILL of every process but the servers", WORKERS, _all_wiped),
        Fault("poison", "a step that kills its worker each time", NOTHING, _poison),
        Fault("leader_killed", "SIGKILL of the leading dispatcher", NOTHING, _leader_killed),
        Fault("leader_frozen", "the leading dispatcher frozen", NOTHING, _leader_frozen),
        Fault("beat_killed", "SIGKILL of beat", BEAT, _beat_killed),
        Fault("second_beat", "a second beat", BEAT, _second_beat),
        Fault("flushed", "FLUSHALL", REDIS, _flushed),
        Fault("flushed_again", "FLUSHALL, and again during the re-send", REDIS, _flushed_again),
        Fault("clients_cut", "CLIENT KILL of all", REDIS, _clients_cut),
        Fault("redis_killed", "Redis killed, back with its append-only file", REDIS, _redis_killed),
        Fault(REDIS_AWAY, "Redis killed, back empty after a minute", REDIS, _redis_away),
        Fault("redis_emptied", "Redis killed, back empty", REDIS, _redis_emptied),
        Fault("redis_set_back", "Redis killed, back with an old file", REDIS, _redis_set_back),
        Fault("redis_frozen", "Redis frozen", REDIS, _redis_frozen),
        Fault("redis_full", "Redis full", REDIS, _redis_full),
        Fault("messages_doubled", "every waiting message twice", REDIS, _messages_doubled),
        Fault("messages_late", "old messages again, shuffled", REDIS, _messages_late),
        Fault("postgres_crashed", "Postgres restarted in immediate mode", POSTGRES, _postgres_crashed),
        Fault("connections_cut", "every connection to Postgres cut", POSTGRES, _connections_cut),
        Fault("postgres_away", "Postgres down for longer than a lease", POSTGRES, _postgres_away),
        Fault("postgres_frozen", "Postgres frozen", POSTGRES, _postgres_frozen),
        Fault("store_gone", "the content store gone", STORE, _store_gone),
        Fault("store_read_only", "the content store read-only", STORE, _store_read_only),
    )
}
TRANSIENT = (psycopg.Error, redis.RedisError, OSError)
"""What making a fault may meet where another one stands already."""

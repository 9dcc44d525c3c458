# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's protocol (docs/agent-protocol.md): send commands, receive answers and records."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.agent.channel import AgentChannel
from harness.evidence import InFlight
from harness.machine.patience import WALL, Clock, Deadline
from harness.verdict import EXIT_FAIL, HarnessError, HypervisorError, LabError, Verdict

# Seconds of the machine.  The agent itself waits at most 7 for Xen, and much earlier it is looked
# whether a CPU hangs (harness.run.session): so a busy computer has all the time that it may need.
ANSWER_TIMEOUT = 30.0
_CHUNK = 1 << 18
# An agent runs in a guest, which is not to be trusted: what it sends has an end, in bytes and time.
_LONGEST_LINE = 16 << 10  # bytes; the agent's are 8 KiB at most (guests/agent/command.h)
_LARGEST_PAYLOAD = 64 << 20  # bytes; the records of one thread take 34 MB
_SLOWEST = 16 << 10  # bytes a second, of a payload
_LARGEST_NUMBER = 1 << 64
# An operation is overdue after the time for which the agent waits, by the guest's clock, and nearly
# as long by the machine's: that may stand still while the guest's goes on.
_AGENT_WAITS, _SHARE = 5.0, 0.8
_JOIN_MS = 2000

Arguments = Mapping[str, int | str | Sequence[int]]
_NONE: Arguments = {}


class AgentLost(LabError):
    """The agent no longer answers: its channel has ended, or nothing comes in time."""


class AgentGarbled(AgentLost):
    """What the agent sends is not the protocol, or has no end."""


class AgentRefused(HarnessError):
    """Xen, Linux or the agent has answered a command with an error number.

    ``errno`` is that number, positive; ``answer`` has the ticks of the attempt.  FAIL if the
    operation was made: then whoever does not catch this error expected Xen to allow it.
    """

    def __init__(self, name: str, command: str, answer: Answer) -> None:
        self.errno = answer.integer("errno", 0)
        self.answer = answer
        # "call" is when the operation began; EBADF says that there is no Xen to ask.
        if "call" in answer.fields and self.errno != errno.EBADF:
            self.verdict, self.exit_code = Verdict.FAIL, EXIT_FAIL
        code = errno.errorcode.get(self.errno, str(self.errno))
        super().__init__(f"{command}: {code} ({answer.fields.get('what', '?')})", where=name)


class OperationInFlight(HypervisorError):
    """An operation has entered the hypervisor and not returned."""


@dataclass(frozen=True)
class Answer:
    """One answer line, parsed, and the bytes that followed it."""

    ok: bool
    fields: Mapping[str, str]
    payload: bytes = field(default=b"", repr=False)

    def integer(self, key: str, otherwise: int | None = None) -> int:
        """Return the number called ``key``; AgentGarbled when the answer has none."""
        word = self.fields.get(key)
        if word is None and otherwise is not None:
            return otherwise
        return self._number(key, word or "")

    def integers(self, key: str) -> list[int]:
        """Return the comma-separated numbers called ``key``, [] when there are none.

        AgentGarbled when one of them is none.
        """
        word = self.fields.get(key, "")
        return [self._number(key, part) for part in word.split(",")] if word else []

    def _number(self, key: str, word: str) -> int:
        try:
            number = int(word)
        except ValueError:
            number = _LARGEST_NUMBER
        if not -_LARGEST_NUMBER < number < _LARGEST_NUMBER:
            raise AgentGarbled(f"the agent's answer has no number {key!r}: {_short(self.fields)}")
        return number


class Connection:
    """Commands to one agent, one after the other."""

    def __init__(self, channel: AgentChannel, name: str, clock: Clock = WALL) -> None:
        self.name = name
        self._channel = channel
        self.clock = clock
        self._pending = bytearray()
        self._lost: AgentLost | None = None
        self._turn = threading.Lock()
        self._posted = False

    def ask(
        self, verb: str, arguments: Arguments = _NONE, *, timeout: float = ANSWER_TIMEOUT
    ) -> Answer:
        """Send a command and return its answer.

        Raises AgentRefused for an ``err`` answer, OperationInFlight when the agent answers that
        the operation has not returned from Xen, AgentLost when nothing comes for ``timeout``
        seconds.  A lost agent stays lost: its late answer would be taken for that to another
        command.
        """
        return self.ask_in_a_row(verb, [arguments], timeout=timeout)[0]

    def ask_in_a_row(
        self, verb: str, many: Sequence[Arguments], *, timeout: float = ANSWER_TIMEOUT
    ) -> list[Answer]:
        """Send the same verb with each of ``many`` arguments, in one message; return the answers.

        One message instead of many saves most of the time of short operations.  Commands and
        answers must fit into the channel's buffers (a few KiB), because answers are read only
        after all commands have been written.  Raises as ``ask`` does, for the first command that
        failed, when all have been answered.
        """
        answers = self.attempt_in_a_row(verb, many, timeout=timeout)
        for arguments, answer in zip(many, answers, strict=True):
            if not answer.ok:
                raise AgentRefused(self.name, _command(verb, arguments), answer)
        return answers

    def attempt(
        self, verb: str, arguments: Arguments = _NONE, *, timeout: float = ANSWER_TIMEOUT
    ) -> Answer:
        """Like ``ask``, but return an ``err`` answer instead of raising AgentRefused."""
        return self.attempt_in_a_row(verb, [arguments], timeout=timeout)[0]

    def attempt_in_a_row(
        self, verb: str, many: Sequence[Arguments], *, timeout: float = ANSWER_TIMEOUT
    ) -> list[Answer]:
        """Like ``ask_in_a_row``, but return ``err`` answers like any other."""
        return self.attempt_all([(verb, arguments) for arguments in many], timeout=timeout)

    def attempt_all(
        self, many: Sequence[tuple[str, Arguments]], *, timeout: float = ANSWER_TIMEOUT
    ) -> list[Answer]:
        """Like ``attempt_in_a_row``, with a verb for each command."""
        commands = [_command(verb, arguments) for verb, arguments in many]
        waits = max(_waits(arguments) for _, arguments in many)
        deadline = Deadline(self.clock, _SHARE * waits)
        answers = self._exchange(many[0][0], commands, timeout)
        for at, (verb, arguments) in enumerate(many):
            if _in_flight(answers[at]) == errno.ETIME:
                answers[at] = self._awaited(verb, arguments, answers[at], deadline)
            elif at and _in_flight(answers[at]):  # the agent refused it because of one before it
                answers[at] = self.attempt(verb, arguments, timeout=timeout)
        return answers

    def _awaited(
        self, verb: str, arguments: Arguments, overdue: Answer, deadline: Deadline
    ) -> Answer:
        """Return the answer to a command whose operation has not returned in the guest's time.

        The guest's time passes also while the machine has no CPU, so wait until ``deadline``.
        OperationInFlight after that, and at once for a race, which is of two workers; LabError if
        the agent has not kept the answer.
        """
        on = overdue.integer("on", 0)
        while verb != "race" and not deadline.over:
            joined = self._exchange("join", [f"join on={on} wait_ms={_JOIN_MS}"], ANSWER_TIMEOUT)[0]
            if _in_flight(joined):
                continue
            if joined.integer("errno", 0) == errno.ENOENT and joined.fields.get("what") == "join":
                raise LabError(f"the answer to {verb!r} came late and is lost", where=self.name)
            if verb != "release":
                return joined  # the command was this single operation
            again = self._exchange(verb, [_command(verb, arguments)], ANSWER_TIMEOUT)[0]
            if not _in_flight(again):
                return again
        told: dict[str, int | str] = {name: _word(value) for name, value in arguments.items()}
        raise OperationInFlight(
            InFlight(domain=self.name, verb=verb, arguments=told), where=self.name
        )

    def post(self, commands: Sequence[tuple[str, Arguments]], payload: bytes = b"") -> None:
        """Send ``commands``, then ``payload``, which belongs to the last one, and return at once.
        Next, ``collect`` has to be called."""
        if not self._turn.acquire(timeout=ANSWER_TIMEOUT):
            raise AgentLost("an earlier answer is overdue", where=self.name)
        if self._lost:
            self._turn.release()
            raise self._lost
        self._lost = AgentLost("a posted command was never answered", where=self.name)
        self._posted = True
        lines = "".join(f"{_command(*each)}\n" for each in commands)
        self._channel.write(lines.encode("ascii") + payload)

    @property
    def posted(self) -> bool:
        """Whether ``post`` has been called, and ``collect`` has not yet."""
        return self._posted

    def collect(
        self, count: int, timeout: float = ANSWER_TIMEOUT, largest: int = 0
    ) -> list[Answer]:
        """Return the answers to the ``count`` posted commands, ``ok`` or ``err``, each with at most
        ``largest`` bytes of payload."""
        try:
            answers = [self._answer(timeout, largest) for _ in range(count)]
            self._lost = None
        except AgentGarbled as error:
            self._lost = error
            raise
        except (TimeoutError, OSError, EOFError) as error:
            self._lost = AgentLost(f"no answer to what was posted: {error}", where=self.name)
            raise self._lost from None
        finally:
            self._posted = False
            self._turn.release()
        return answers

    def stream(
        self, many: Sequence[tuple[str, Arguments]], *, timeout: float = ANSWER_TIMEOUT
    ) -> Generator[Answer]:
        """Send ``many`` commands in one message; yield each answer, ``ok`` or ``err``, as it comes.

        So the agent makes the next operation while the caller looks at the answer.  Who wants no
        more of them closes the generator: it reads those that are left, and drops them.  For the
        bare guest, which answers nothing before an operation has returned.  Commands must fit into
        the channel's buffers, as those of ``ask_in_a_row``.  Raises AgentLost.
        """
        return self._answers(many[0][0], [_command(*each) for each in many], timeout)

    def _exchange(self, verb: str, commands: Sequence[str], timeout: float) -> list[Answer]:
        """Send ``commands`` and return their answers, ``ok`` or ``err``; errors name ``verb``."""
        return list(self._answers(verb, commands, timeout))

    def _answers(self, verb: str, commands: Sequence[str], timeout: float) -> Generator[Answer]:
        """Send ``commands`` and yield their answers; the turn of others comes after the last."""
        if not self._turn.acquire(timeout=timeout):
            raise AgentLost(f"{verb!r} has to wait: an earlier answer is overdue", where=self.name)
        left = len(commands)
        try:
            if self._lost:
                raise self._lost
            self._lost = AgentLost(f"{verb!r} was interrupted", where=self.name)  # until answered
            try:
                self._channel.write("".join(f"{each}\n" for each in commands).encode("ascii"))
                largest = _LARGEST_PAYLOAD if verb == "collect" else 0
                while left:
                    answer = self._answer(timeout, largest)
                    left -= 1
                    yield answer
            except AgentGarbled as error:
                self._lost = error
                raise
            except TimeoutError:
                self._lost = AgentLost(
                    f"no answer to {verb!r} within {timeout:.0f} s",
                    where=self.name,
                    hint="its domain or the hypervisor may hang: see the consoles",
                )
                raise self._lost from None
            except (OSError, EOFError, LabError) as error:
                why = f": {error}" if str(error) else ""
                self._lost = AgentLost(f"the channel ended during {verb!r}{why}", where=self.name)
                raise self._lost from None
            except GeneratorExit:
                self._drop(left, timeout)
                raise
            self._lost = None
        finally:
            self._turn.release()

    def _drop(self, count: int, timeout: float) -> None:
        """Read ``count`` answers that nobody wants; without them all, the agent stays lost."""
        with contextlib.suppress(OSError, EOFError, LabError):
            for _ in range(count):
                self._answer(timeout)
            self._lost = None

    def close(self) -> None:
        """Close the channel: the agent then closes its ports and ends."""
        self._channel.close()

    def _answer(self, timeout: float, largest: int = 0) -> Answer:
        """Return the next answer, whose payload has at most ``largest`` bytes."""
        line = self._line(Deadline(self.clock, timeout))
        head, _, rest = line.partition(" ")
        if head not in ("ok", "err"):
            raise AgentGarbled(f"not an answer: {line[:80]!r}", where=self.name)
        fields = dict(word.partition("=")[::2] for word in rest.split())
        answer = Answer(head == "ok", fields)
        size = answer.integer("bytes", 0) if answer.ok else 0
        if not 0 <= size <= largest:
            raise AgentGarbled(f"a payload of {size} bytes: {line[:80]!r}", where=self.name)
        deadline = Deadline(self.clock, timeout + size / _SLOWEST)
        return replace(answer, payload=self._bytes(size, timeout, deadline))

    def _line(self, deadline: Deadline) -> str:
        while (end := self._pending.find(b"\n", 0, _LONGEST_LINE)) < 0:
            if len(self._pending) >= _LONGEST_LINE:
                said = bytes(self._pending[:80])
                raise AgentGarbled(f"a line without end: {said!r}", where=self.name)
            self._fill(deadline.left)
        line = self._take(end + 1)
        return line[:-1].decode("ascii", "replace")

    def _bytes(self, size: int, timeout: float, deadline: Deadline) -> bytes:
        while len(self._pending) < size:
            self._fill(min(timeout, deadline.left))
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._pending[:size])
        del self._pending[:size]
        return taken

    def _fill(self, timeout: float) -> None:
        if timeout <= 0:  # it sends, but too slowly
            raise TimeoutError
        data = self._channel.read(_CHUNK, timeout)
        if not data:
            raise EOFError
        self._pending += data


def _short(fields: Mapping[str, str]) -> str:
    text = str(fields)
    return text if len(text) <= 300 else f"{text[:300]}..."


def _waits(arguments: Arguments) -> float:
    """Return how many seconds the agent waits for the operation."""
    given = arguments.get("wait_ms")
    return given / 1000 if isinstance(given, int) else _AGENT_WAITS


def _in_flight(answer: Answer) -> int:
    """Return ETIME if the operation has not returned, EBUSY if its vCPU still has another, or 0."""
    lost = not answer.ok and answer.fields.get("what") == "in-flight"
    return answer.integer("errno") if lost else 0


def _command(verb: str, arguments: Arguments) -> str:
    return " ".join([verb, *(f"{key}={_word(value)}" for key, value in arguments.items())])


def _word(value: int | str | Sequence[int]) -> str:
    if isinstance(value, int | str):
        return str(value)
    return ",".join(map(str, value))

"""Run the command line: ``bluejay-ws``, or ``python -m bluejay_ws``."""

# Its face in the library, `signal`, takes ten milliseconds to import, in which Ctrl-C would be a traceback.
import _signal as signal  # type: ignore[import-not-found]
import sys

__all__ = ["main"]


def main() -> int:
    """Run the command that the process was started with, and return its exit code.

    Ctrl-C ends the process without a word while the command is imported, and after it has ended: there is nothing to
    tidy up then, and Python would show where its own code was.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored, as under nohup
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from bluejay_ws import cli  # noqa: PLC0415 - may be interrupted from here on

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return cli.main()
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())

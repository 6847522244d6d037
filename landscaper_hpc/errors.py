"""The exceptions that the command line turns into messages and exit codes."""


class InputError(Exception):
    """Something the user gave cannot be used; exit code 2.

    The message is one sentence that names the key or file, says what was found, and says what to do.
    """


class TaskFailed(Exception):
    """A task raised something that is not bad input; exit code 1.

    The message holds the task and the task's own traceback.
    """


class Stopped(BaseException):
    """A worker has to end before the work does (walltime, preemption) and wants to be started again; exit code 75.

    No `Exception`: what is dropped for it is no failure.
    """

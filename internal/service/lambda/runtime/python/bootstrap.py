"""Runs a Python handler over the Lambda Runtime API, as AWS's managed runtime does.

Started in two ways: with the function's environment (a fresh sandbox), or ahead
of any function with SKERRY_PRESTART set, when it waits for its assignment.
Modules that cost time to import (logging, traceback) are imported late.
"""

import os
import sys

import _json
import _socket

# A record of several lines is one log event: it travels as one line that starts
# with FRAME and has BREAK for line ends.
FRAME = "\x02"
BREAK = "\x1f"
NBSP = "\u00a0"

WARNING = (
    "LAMBDA_WARNING: Unhandled exception. The most likely cause is an issue in the function code. "
    "However, in rare cases, a Lambda runtime update can cause unexpected function behavior. "
    "For functions using managed runtimes, runtime updates can be triggered by a function change, or can be "
    "applied automatically. To determine if the runtime has been updated, check the runtime version in the "
    "INIT_START log entry. If this error correlates with a change in the runtime version, you may be able to "
    "mitigate this error by temporarily rolling back to the previous runtime version. For more information, "
    "see https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html"
)


class Fault(Exception):
    """An error of loading the handler, under the name AWS gives it."""

    def __init__(self, kind, message, trace=None):
        super().__init__(message)
        self.kind, self.message, self.trace = kind, message, trace or []


class Client:
    """Speaks HTTP/1.1 to the Runtime API over one connection."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.host = address
        self.socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.pending = b""

    def call(self, method, path, body=None, headers=""):
        head = "%s %s HTTP/1.1\r\nHost: %s\r\n%s" % (method, path, self.host, headers)
        if body is not None:
            head += "Content-Length: %d\r\n" % len(body)
        data = (head + "\r\n").encode("latin-1", "replace")
        if body is not None and len(body) < 65536:
            self.socket.sendall(data + body)
        else:
            self.socket.sendall(data)
            if body:
                self.socket.sendall(body)
        return self.answer()

    def answer(self):
        data = self.pending
        while True:
            end = data.find(b"\r\n\r\n")
            if end >= 0:
                break
            more = self.socket.recv(65536)
            if not more:
                sys.exit(0)
            data += more
        lines = data[:end].decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ", 2)[1])
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        body = data[end + 4 :]
        if len(body) < length:
            parts, have = [body], len(body)
            while have < length:
                more = self.socket.recv(min(1 << 20, length - have))
                if not more:
                    sys.exit(0)
                parts.append(more)
                have += len(more)
            body = b"".join(parts)
        self.pending = body[length:]
        return status, headers, body[:length]


class CognitoIdentity:
    __slots__ = ["cognito_identity_id", "cognito_identity_pool_id"]

    def __init__(self, values):
        self.cognito_identity_id = values.get("cognitoIdentityId")
        self.cognito_identity_pool_id = values.get("cognitoIdentityPoolId")

    def __repr__(self):
        return show(self, self.__slots__)


class Installation:
    __slots__ = ["installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"]

    def __init__(self, values):
        for name in self.__slots__:
            setattr(self, name, values.get(name))

    def __repr__(self):
        return show(self, self.__slots__)


class ClientContext:
    __slots__ = ["custom", "env", "client"]

    def __init__(self, values):
        self.custom = values.get("custom")
        self.env = values.get("env")
        self.client = Installation(values["client"]) if values.get("client") else None

    def __repr__(self):
        return show(self, self.__slots__)


class LambdaContext:
    """What a handler knows of its invocation ("AWS Lambda context object in Python")."""

    def __init__(self, headers):
        env = os.environ
        self.aws_request_id = headers["lambda-runtime-aws-request-id"]
        self.log_group_name = env.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = env.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = env.get("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = env.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = env.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        self.client_context = None
        text = headers.get("lambda-runtime-client-context")
        if text:
            self.client_context = ClientContext(parse_header(text, "Client Context"))
        text = headers.get("lambda-runtime-cognito-identity")
        self.identity = CognitoIdentity(parse_header(text, "Cognito Identity") if text else {})
        self._epoch_deadline_time_in_ms = int(headers.get("lambda-runtime-deadline-ms", 0))

    def get_remaining_time_in_millis(self):
        import time

        left = self._epoch_deadline_time_in_ms - int(time.time() * 1000)
        return left if left > 0 else 0

    def log(self, message):
        sys.stdout.write(str(message))

    def __repr__(self):
        return show(
            self,
            [
                "aws_request_id",
                "log_group_name",
                "log_stream_name",
                "function_name",
                "memory_limit_in_mb",
                "function_version",
                "invoked_function_arn",
                "client_context",
                "identity",
                "tenant_id",
            ],
        )


def show(thing, names):
    return "%s([%s])" % (type(thing).__name__, ",".join("%s=%s" % (n, getattr(thing, n)) for n in names))


def parse_header(text, name):
    # Bytes beyond ASCII arrive as latin-1, which is how header lines are decoded.
    try:
        return from_json(text.encode("latin-1"))
    except Exception as e:
        raise Fault("Runtime.LambdaContextUnmarshalError", "Unable to parse %s JSON: %s" % (name, e))


def utc(seconds=None):
    import time

    now = time.time() if seconds is None else seconds
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + ".%03dZ" % (now % 1 * 1000)


class Log:
    """Writes records to standard output in the function's log format."""

    request_id = None
    json_format = False
    level = ""

    @classmethod
    def configure(cls):
        cls.json_format = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
        level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
        cls.level = {"TRACE": "NOTSET", "WARN": "WARNING", "FATAL": "CRITICAL"}.get(level, level)

    @staticmethod
    def write(text):
        text = text.rstrip("\n")
        if "\n" in text:
            text = FRAME + text.replace("\n", BREAK)
        sys.stdout.write(text + "\n")

    @classmethod
    def warning(cls, message):
        if cls.json_format:
            cls.write(to_json({"timestamp": utc()[:-5] + "Z", "level": "WARN", "message": message}))
        else:
            cls.write("[WARNING]\t%s\t%s\t%s" % (utc(), cls.request_id or "", message))

    @classmethod
    def error(cls, result):
        if cls.json_format:
            cls.write(to_json({"timestamp": utc()[:-5] + "Z", "level": "ERROR", **result}))
            return
        head = "[ERROR]"
        if result["errorType"]:
            head += " " + result["errorType"]
        if result["errorMessage"]:
            head += (": " if result["errorType"] else " ") + result["errorMessage"]
        lines = [head, "Traceback (most recent call last):"]
        for element in result["stackTrace"]:
            for line in element.splitlines() or [""]:
                bare = line.lstrip(" ")
                lines.append(NBSP * (len(line) - len(bare)) + bare)
        cls.write("\n".join(lines))


def set_up_logging(logging):
    """Gives the root logger AWS's handler and format."""
    import time

    class Handler(logging.Handler):
        def emit(self, record):
            try:
                Log.write(self.format(record))
            except Exception:
                self.handleError(record)

    class Filter(logging.Filter):
        def filter(self, record):
            record.aws_request_id = Log.request_id or ""
            return True

    known = set(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
        "message", "asctime", "aws_request_id", "taskName", "tenant_id",
    }

    class JSON(logging.Formatter):
        def format(self, record):
            name = {"WARNING": "WARN", "CRITICAL": "FATAL"}.get(record.levelname, record.levelname)
            result = {
                "timestamp": utc(record.created)[:-5] + "Z",
                "level": name,
                "message": record.getMessage(),
                "logger": record.name,
            }
            if record.exc_info and record.exc_info[0]:
                import traceback

                kind, value, tb = record.exc_info
                result["stackTrace"] = traceback.format_list(traceback.extract_tb(tb))
                result["errorType"], result["errorMessage"] = kind.__name__, str(value)
                last = traceback.extract_tb(tb)[-1:] if tb else []
                for f in last:
                    result["location"] = "%s:%s:%s" % (f.filename, f.name, f.lineno)
            if record.aws_request_id:
                result["requestId"] = record.aws_request_id
            for key, value in record.__dict__.items():
                if key not in known and key not in result:
                    result[key] = value
            return to_json(result)

    logging.Formatter.converter = time.gmtime
    handler = Handler()
    if Log.json_format:
        handler.setFormatter(JSON())
    else:
        handler.setFormatter(
            logging.Formatter(
                "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n",
                "%Y-%m-%dT%H:%M:%S",
            )
        )
    handler.addFilter(Filter())
    root = logging.getLogger()
    if Log.level and isinstance(logging.getLevelName(Log.level), int):
        root.setLevel(Log.level)
    root.addHandler(handler)


class LateLogging:
    """Finds the module logging as usual, and sets it up once it is imported."""

    def find_spec(self, name, path, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        import importlib.util

        spec = importlib.util.find_spec(name)
        loader = spec.loader
        run = loader.exec_module

        def exec_module(module):
            run(module)
            set_up_logging(module)

        loader.exec_module = exec_module
        return spec


class Scanner:
    """What the decoder of the module json is made of; that module is slow to import."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int
    parse_constant = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__


def from_json(data):
    """Does json.loads. Whatever is not plain is left to that module, its errors too."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        text = text.strip(" \t\n\r")
        value, end = Scanner.scan(text, 0)
        if end == len(text):
            return value
    except (Exception, StopIteration):
        pass
    import json

    return json.loads(data)


Scanner.scan = _json.make_scanner(Scanner)


def fallback(value):
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        return float(value)
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


ASCII = sys.version_info < (3, 12)
QUOTE = _json.encode_basestring_ascii if ASCII else _json.encode_basestring


def to_json(value):
    """Does json.dumps as AWS's runtimes do: Decimal is a number, text is ASCII before Python 3.12."""
    try:
        encode = _json.make_encoder({}, fallback, QUOTE, None, ": ", ", ", False, False, True)
        return "".join(encode(value, 0))
    except Exception:
        import json

        return json.dumps(value, ensure_ascii=ASCII, default=fallback)


def load_handler(handler):
    modname, dot, name = handler.rpartition(".")
    if not dot:
        raise Fault(
            "Runtime.MalformedHandlerName",
            "Bad handler '%s': not enough values to unpack (expected 2, got 1)" % handler,
        )
    if modname.split(".")[0] in sys.builtin_module_names:
        raise Fault(
            "Runtime.BuiltInModuleConflict", "Cannot use built-in module %s as a handler module" % modname
        )
    try:
        import importlib

        module = importlib.import_module(modname.replace("/", "."))
    except ImportError as e:
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (modname, e))
    except SyntaxError as e:
        trace = ['  File "%s" Line %s\n    %s' % (e.filename, e.lineno, e.text)]
        raise Fault("Runtime.UserCodeSyntaxError", "Syntax error in module '%s': %s" % (modname, e), trace)
    try:
        return getattr(module, name)
    except AttributeError:
        raise Fault("Runtime.HandlerNotFound", "Handler '%s' missing on module '%s'" % (name, modname))


def describe(error, request_id=""):
    """Returns AWS's error object for an exception that is being handled."""
    if isinstance(error, Fault):
        frames, message, kind, trace = [], error.message, error.kind, error.trace
    else:
        import traceback

        frames = traceback.extract_tb(error.__traceback__)
        own = describe.__code__.co_filename
        for i, frame in enumerate(frames):
            if frame.filename != own and "importlib" not in frame.filename:
                frames = frames[i:]
                break
        message, kind = str(error), type(error).__name__
        trace = traceback.format_list(frames)
    result = {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": trace}
    cause = {
        "working_directory": os.getcwd(),
        "exceptions": [
            {
                "message": message,
                "type": kind,
                "stack": [{"label": f.name, "path": f.filename, "line": f.lineno} for f in frames],
            }
        ],
        "paths": sorted({f.filename for f in frames}),
    }
    return result, cause


def error_headers(kind, cause):
    headers = "Content-Type: application/json\r\nLambda-Runtime-Function-Error-Type: %s\r\n" % kind
    text = to_json(cause)
    if len(text) < 16384 and text.isascii():
        headers += "Lambda-Runtime-Function-XRay-Error-Cause: %s\r\n" % text
    return headers


def serve_one(client, handler):
    _, headers, body = client.call("GET", "/2018-06-01/runtime/invocation/next")
    request_id = Log.request_id = headers["lambda-runtime-aws-request-id"]
    trace = headers.get("lambda-runtime-trace-id")
    if trace:
        os.environ["_X_AMZN_TRACE_ID"] = trace
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
    path = "/2018-06-01/runtime/invocation/" + request_id
    try:
        context = LambdaContext(headers)
        try:
            event = from_json(body)
        except Exception as e:
            raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % e)
        response = handler(event, context)
        if isinstance(response, bytes) and not isinstance(response, str):
            answer, kind = response, "application/unknown"
        else:
            kind = "application/json"
            try:
                answer = to_json(response).encode()
            except Exception as e:
                raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % e)
    except Exception as e:
        result, cause = describe(e, request_id)
        Log.error(result)
        sys.stdout.flush()
        client.call("POST", path + "/error", to_json(result).encode(), error_headers(result["errorType"], cause))
        return
    sys.stdout.flush()
    sys.stderr.flush()
    client.call("POST", path + "/response", answer, "Content-Type: %s\r\n" % kind)


def take_assignment(client):
    """Waits for a function, and becomes it."""
    import importlib.util  # what nearly every function needs is loaded ahead
    import json
    import logging
    import time
    import traceback

    assert importlib.util and logging and traceback

    _, _, body = client.call("GET", "/skerry/assignment")
    os.environ.pop("SKERRY_PRESTART", None)
    os.environ.update(json.loads(body))
    time.tzset()
    importlib.invalidate_caches()
    sys.path_importer_cache.clear()


def main():
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    client = Client(os.environ["AWS_LAMBDA_RUNTIME_API"])
    if os.environ.get("SKERRY_PRESTART"):
        take_assignment(client)
    root = os.environ["LAMBDA_TASK_ROOT"]
    os.chdir(root)
    version = "python%d.%d" % sys.version_info[:2]
    own = os.path.dirname(os.path.abspath(__file__))
    rest = [p for p in sys.path if p and os.path.abspath(p) != own]
    sys.path[:] = [root, "/opt/python/lib/%s/site-packages" % version, "/opt/python"] + rest + [own]
    Log.configure()
    if "logging" in sys.modules:
        set_up_logging(sys.modules["logging"])
    else:
        sys.meta_path.insert(0, LateLogging())
    try:
        handler = load_handler(os.environ["_HANDLER"])
    except Exception as e:
        result, cause = describe(e)
        Log.warning(WARNING)
        Log.error(result)
        sys.stdout.flush()
        body = to_json(result).encode()
        client.call("POST", "/2018-06-01/runtime/init/error", body, error_headers(result["errorType"], cause))
        sys.exit(1)
    while True:
        serve_one(client, handler)


if __name__ == "__main__":
    # A handler may import a module named like this one: leave the name free.
    sys.modules.pop("bootstrap", None)
    main()

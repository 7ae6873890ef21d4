// Runs a Node.js handler over the Lambda Runtime API, as AWS's managed runtime
// does. Started in two ways: with the function's environment (a fresh sandbox),
// or ahead of any function with SKERRY_PRESTART set, when it waits for its
// assignment.
'use strict';

const fs = require('fs');
const net = require('net');
const path = require('path');
const util = require('util');
const { pathToFileURL } = require('url');

// A record of several lines is one log event: it travels as one line that starts
// with FRAME and has BREAK for line ends.
const FRAME = '\x02';
const BREAK = '\x1f';
const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');
const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId');
const PRELUDE_END = Buffer.alloc(8);

function runtimeError(name) {
  const c = class extends Error {};
  c.prototype.name = `Runtime.${name}`;
  return c;
}

const ImportModuleError = runtimeError('ImportModuleError');
const HandlerNotFound = runtimeError('HandlerNotFound');
const MalformedHandlerName = runtimeError('MalformedHandlerName');
const MalformedStreamingHandler = runtimeError('MalformedStreamingHandler');
const UserCodeSyntaxError = runtimeError('UserCodeSyntaxError');
const UnhandledPromiseRejection = runtimeError('UnhandledPromiseRejection');
const NodeJsExit = runtimeError('NodeJsExit');

// Client speaks HTTP/1.1 to the Runtime API over one connection, one call at a
// time. The connection holds the process up only while it waits for an event.
class Client {
  constructor(address) {
    const colon = address.lastIndexOf(':');
    this.address = address;
    this.chunks = [];
    this.size = 0;
    this.waiting = null;
    this.socket = net.connect({ host: address.slice(0, colon), port: +address.slice(colon + 1), noDelay: true });
    this.socket.on('data', (chunk) => this.receive(chunk));
    this.socket.on('error', () => process.exit(0));
    this.socket.on('close', () => process.exit(0));
  }

  call(method, target, headers, body) {
    let head = `${method} ${target} HTTP/1.1\r\nHost: ${this.address}\r\n`;
    for (const name in headers) head += `${name}: ${headers[name]}\r\n`;
    if (body !== undefined) head += `Content-Length: ${Buffer.byteLength(body)}\r\n`;
    this.socket.ref();
    return new Promise((resolve) => {
      this.waiting = resolve;
      head += '\r\n';
      if (typeof body === 'string') this.socket.write(head + body);
      else {
        this.socket.cork();
        this.socket.write(head);
        if (body) this.socket.write(body);
        this.socket.uncork();
      }
    });
  }

  receive(chunk) {
    this.chunks.push(chunk);
    this.size += chunk.length;
    if (this.need && this.size < this.need) return;
    const data = this.chunks.length === 1 ? this.chunks[0] : Buffer.concat(this.chunks);
    this.chunks = [data];
    const end = data.indexOf('\r\n\r\n');
    if (end < 0) return;
    const lines = data.latin1Slice(0, end).split('\r\n');
    const headers = {};
    for (let i = 1; i < lines.length; i++) {
      const colon = lines[i].indexOf(':');
      headers[lines[i].slice(0, colon).toLowerCase()] = lines[i].slice(colon + 1).trim();
    }
    this.need = end + 4 + +(headers['content-length'] || 0);
    if (this.size < this.need) return;
    const body = data.subarray(end + 4, this.need);
    this.chunks = [];
    this.size = this.need = 0;
    const resolve = this.waiting;
    this.waiting = null;
    this.socket.unref();
    if (resolve) resolve({ status: +lines[0].split(' ')[1], headers, body });
  }

  // stream begins an answer of unknown length; the writer it returns takes
  // chunks and ends with end(trailer).
  stream(target, headers) {
    let head = `POST ${target} HTTP/1.1\r\nHost: ${this.address}\r\nTransfer-Encoding: chunked\r\n`;
    for (const name in headers) head += `${name}: ${headers[name]}\r\n`;
    this.socket.ref();
    const done = new Promise((resolve) => { this.waiting = resolve; });
    this.socket.write(head + '\r\n');
    return {
      write: (chunk, cb) => {
        if (!chunk.length) return cb();
        this.socket.cork();
        this.socket.write(chunk.length.toString(16) + '\r\n');
        this.socket.write(chunk);
        this.socket.write('\r\n', cb);
        this.socket.uncork();
      },
      end: (trailer) => {
        let text = '0\r\n';
        for (const name in trailer) text += `${name}: ${trailer[name]}\r\n`;
        this.socket.write(text + '\r\n');
        return done;
      },
    };
  }
}

function writeLine(text) {
  if (text.includes('\n')) text = FRAME + text.replace(/\n/g, BREAK);
  let data = Buffer.from(text + '\n');
  while (data.length) {
    try {
      data = data.subarray(fs.writeSync(1, data));
    } catch (e) {
      if (e.code !== 'EAGAIN') return;
    }
  }
}

function errorFields(error) {
  return {
    errorType: error.name || 'UnknownError',
    errorMessage: error.message,
    stackTrace: typeof error.stack === 'string' ? error.stack.split('\n') : [],
    ...error,
  };
}

function jsonLine(level, params) {
  const line = { timestamp: new Date().toISOString(), level, requestId: globalThis[REQUEST_ID] };
  if (params.length === 1) {
    line.message = params[0];
    try {
      return JSON.stringify(line, (_, v) => (v instanceof Error ? errorFields(v) : v));
    } catch {
      line.message = util.format(params[0]);
      return JSON.stringify(line);
    }
  }
  line.message = util.format(...params);
  const error = params.find((p) => p instanceof Error);
  if (error) {
    const { errorType, errorMessage, stackTrace } = errorFields(error);
    Object.assign(line, { errorType, errorMessage, stackTrace });
  }
  return JSON.stringify(line);
}

// patchConsole makes the console's functions write AWS's lines.
function patchConsole() {
  const levels = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
  const json = (process.env.AWS_LAMBDA_LOG_FORMAT || '').toUpperCase() === 'JSON';
  const least = Math.max(0, levels.indexOf((process.env.AWS_LAMBDA_LOG_LEVEL || '').toUpperCase()));
  levels.forEach((level, rank) => {
    let log = () => {};
    if (rank >= least && json) log = (...params) => writeLine(jsonLine(level, params));
    else if (rank >= least) {
      log = (...params) =>
        writeLine(`${new Date().toISOString()}\t${globalThis[REQUEST_ID]}\t${level}\t${util.format(...params)}`);
    }
    console[level.toLowerCase()] = log;
  });
  console.log = console.info;
  return json;
}

let logJSON = false;

function logError(title, thrown) {
  const error = thrown instanceof Error ? thrown : new Error(thrown);
  if (logJSON) return console.error(error);
  let text;
  try {
    text = JSON.stringify(error, (_, v) => {
      if (!(v instanceof Error)) return v;
      const out = { errorType: v.name, errorMessage: v.message, code: v.code, ...v };
      if (typeof v.stack === 'string') out.stack = v.stack.split('\n');
      return out;
    });
  } catch {
    text = JSON.stringify(errorAnswer(error));
  }
  console.error(title, '\t' + text);
}

// errorAnswer makes the object that the caller of the function gets.
function errorAnswer(error) {
  try {
    if (util.types.isNativeError(error) || (error && error.name && error.message && error.stack)) {
      return { errorType: error.name, errorMessage: error.message, trace: error.stack.split('\n') };
    }
    return { errorType: typeof error, errorMessage: error.toString(), trace: [] };
  } catch {
    return {
      errorType: 'handled',
      errorMessage:
        'callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack',
    };
  }
}

function errorHeaders(answer, error) {
  const headers = { 'Content-Type': 'application/json', 'Lambda-Runtime-Function-Error-Type': ascii(answer.errorType) };
  const stack = error && typeof error.stack === 'string' ? error.stack.split('\n').slice(1) : [];
  const cause = ascii(JSON.stringify({
    working_directory: process.cwd(),
    exceptions: [{ type: answer.errorType, message: answer.errorMessage, stack: stack.map((label) => ({ label: label.trim() })) }],
    paths: [],
  }));
  if (cause.length < 16384) headers['Lambda-Runtime-Function-XRay-Error-Cause'] = cause;
  return headers;
}

function ascii(text) {
  return String(text).replace(/[^\x20-\x7e]/g, (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));
}

function isModulePackage(folder) {
  for (; !folder.endsWith('/node_modules'); folder = path.dirname(folder)) {
    const file = path.join(folder, 'package.json');
    if (fs.existsSync(file)) {
      try {
        return JSON.parse(fs.readFileSync(file)).type === 'module';
      } catch (e) {
        console.warn(`${file} cannot be read, it will be ignored for ES module detection purposes.`, e);
        return false;
      }
    }
    if (folder === '/') return false;
  }
  return false;
}

async function importModule(root, folder, name) {
  const file = path.resolve(root, folder, name);
  const esm = (extension) => import(pathToFileURL(file + extension));
  const exists = (extension) => fs.existsSync(file + extension);
  if (exists('') && !fs.statSync(file).isDirectory()) return require(file);
  if (exists('.js')) return isModulePackage(path.dirname(file)) ? esm('.js') : require(file + '.js');
  if (exists('.mjs')) return esm('.mjs');
  if (exists('.cjs')) return require(file + '.cjs');
  if (+process.versions.node.split('.')[0] >= 24) {
    for (const extension of ['.ts', '.mts', '.cts']) if (exists(extension)) return esm(extension);
  }
  return require(require.resolve(name, { paths: [root, path.resolve(root, folder)] }));
}

async function loadHandler(root, full) {
  if (full.includes('..')) {
    throw new MalformedHandlerName(
      `'${full}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  }
  const base = path.basename(full);
  const match = base.match(/^([^.]*)\.(.*)$/);
  if (!match) throw new MalformedHandlerName('Bad handler');
  let module;
  try {
    module = await importModule(root, full.slice(0, full.indexOf(base)), match[1]);
  } catch (e) {
    if (e instanceof SyntaxError) throw renamed(UserCodeSyntaxError, e);
    if (e && (e.code === 'MODULE_NOT_FOUND' || e.code === 'ERR_MODULE_NOT_FOUND')) throw renamed(ImportModuleError, e);
    throw e;
  }
  const handler = match[2].split('.').reduce((value, key) => value && value[key], module);
  if (!handler) throw new HandlerNotFound(`${full} is undefined or not exported`);
  if (typeof handler !== 'function') throw new HandlerNotFound(`${full} is not a function`);
  if (handler[STREAMING] && handler[STREAMING] !== 'response') {
    throw new MalformedStreamingHandler('Only response streaming is supported.');
  }
  return handler;
}

function renamed(Kind, cause) {
  const error = new Kind(String(cause));
  if (cause.stack) error.stack = `${error.name}: ${cause.stack}`;
  return error;
}

// json is for header values, which arrive byte by byte.
function headerJSON(text) {
  return text ? JSON.parse(Buffer.from(text, 'latin1').toString()) : undefined;
}

function makeContext(headers) {
  const env = process.env;
  const deadline = +headers['lambda-runtime-deadline-ms'];
  return {
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: headerJSON(headers['lambda-runtime-client-context']),
    identity: headerJSON(headers['lambda-runtime-cognito-identity']),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
}

class Runtime {
  constructor(client, handler) {
    this.client = client;
    this.handler = handler;
    this.requestId = '';
    this.whenIdle = null;
    process.on('beforeExit', () => {
      const act = this.whenIdle;
      this.whenIdle = null;
      if (act) act();
    });
  }

  async next() {
    const { headers, body } = await this.client.call('GET', '/2018-06-01/runtime/invocation/next');
    this.requestId = globalThis[REQUEST_ID] = headers['lambda-runtime-aws-request-id'];
    const trace = headers['lambda-runtime-trace-id'];
    if (trace) process.env._X_AMZN_TRACE_ID = trace;
    else delete process.env._X_AMZN_TRACE_ID;
    if (this.handler[STREAMING]) return this.runStreaming(headers, body);
    return this.run(headers, body);
  }

  target(what) {
    return `/2018-06-01/runtime/invocation/${this.requestId}/${what}`;
  }

  async answer(result) {
    let body;
    try {
      body = JSON.stringify(result === undefined ? null : result);
      if (body === undefined) body = 'null';
    } catch (e) {
      return this.fail(new Error('Unable to stringify response body'));
    }
    await this.client.call('POST', this.target('response'), { 'Content-Type': 'application/json' }, body);
    setImmediate(() => this.next());
  }

  async fail(error) {
    logError('Invoke Error', error);
    await this.report(error);
    setImmediate(() => this.next());
  }

  report(error) {
    const answer = errorAnswer(error);
    return this.client.call('POST', this.target('error'), errorHeaders(answer, error), JSON.stringify(answer));
  }

  run(headers, body) {
    let completed = false;
    let wait = true;
    const complete = (error, result) => {
      if (completed) return;
      completed = true;
      this.whenIdle = null;
      const act = () => (error !== undefined && error !== null ? this.fail(error) : this.answer(result));
      if (wait) this.whenIdle = act;
      else act();
    };
    const callback = (error, result) => complete(error, result);
    const now = (error, result) => {
      wait = false;
      complete(error, result);
    };
    this.whenIdle = () => {
      completed = true;
      if (this.handler.constructor && this.handler.constructor.name === 'AsyncFunction') this.fail(new NodeJsExit());
      else this.answer(null);
    };
    try {
      const context = makeContext(headers);
      Object.defineProperty(context, 'callbackWaitsForEmptyEventLoop', {
        enumerable: true, get: () => wait, set: (value) => { wait = value; },
      });
      context.succeed = (result) => now(null, result);
      context.fail = (error) => now(error === undefined || error === null ? 'handled' : error);
      context.done = (error, result) => now(error, result);
      const result = this.handler(JSON.parse(body), context, callback);
      if (result && typeof result.then === 'function') result.then(context.succeed, context.fail);
    } catch (e) {
      now(e);
    }
  }

  async runStreaming(headers, body) {
    let out = null;
    let type = 'application/octet-stream';
    const begin = () => {
      out ??= this.client.stream(this.target('response'), {
        'Content-Type': type, 'Lambda-Runtime-Function-Response-Mode': 'streaming',
        Trailer: 'Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body',
      });
      return out;
    };
    const { Writable } = require('stream');
    const stream = new Writable({
      highWaterMark: this.handler[HIGH_WATER_MARK],
      write(chunk, encoding, cb) {
        begin().write(typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk, cb);
      },
    });
    stream.setContentType = (value) => { type = value; };
    this.whenIdle = null;
    try {
      const promise = this.handler(JSON.parse(body), stream, makeContext(headers));
      if (!promise || typeof promise.then !== 'function') throw new Error('Streaming does not support non-async handlers.');
      await promise;
      if (!stream.writableEnded) throw new Error('Response stream is not finished.');
      if (!stream.writableFinished) await new Promise((resolve) => stream.on('finish', resolve));
      await begin().end();
    } catch (e) {
      logError('Invoke Error', e);
      if (out) {
        const answer = errorAnswer(e);
        await out.end({
          'Lambda-Runtime-Function-Error-Type': ascii(answer.errorType),
          'Lambda-Runtime-Function-Error-Body': Buffer.from(JSON.stringify(answer)).toString('base64'),
        });
      } else await this.report(e);
    }
    setImmediate(() => this.next());
  }
}

// HttpResponseStream.from puts a prelude of status and headers before the body.
function withPrelude(stream, prelude) {
  stream.setContentType('application/vnd.awslambda.http-integration-response');
  stream.write(JSON.stringify(prelude));
  stream.write(PRELUDE_END);
  return stream;
}

async function main() {
  const client = new Client(process.env.AWS_LAMBDA_RUNTIME_API);
  if (process.env.SKERRY_PRESTART) {
    const { body } = await client.call('GET', '/skerry/assignment');
    delete process.env.SKERRY_PRESTART;
    Object.assign(process.env, JSON.parse(body));
    require('module').Module._initPaths();
  }
  const root = process.env.LAMBDA_TASK_ROOT;
  process.chdir(root);
  logJSON = patchConsole();
  globalThis.awslambda = {
    streamifyResponse(handler, options) {
      handler[STREAMING] = 'response';
      if (options && typeof options.highWaterMark === 'number') handler[HIGH_WATER_MARK] = options.highWaterMark;
      return handler;
    },
    HttpResponseStream: { from: withPrelude },
  };

  let runtime = null;
  const die = async (title, error, code) => {
    logError(title, error);
    if (runtime) await runtime.report(error);
    else {
      const answer = errorAnswer(error);
      await client.call('POST', '/2018-06-01/runtime/init/error', errorHeaders(answer, error), JSON.stringify(answer));
    }
    process.exit(code);
  };
  process.on('uncaughtException', (error) => die('Uncaught Exception', error, 129));
  process.on('unhandledRejection', (reason, promise) => {
    const error = new UnhandledPromiseRejection(reason && reason.toString());
    error.reason = reason;
    error.promise = promise;
    die('Unhandled Promise Rejection', error, 128);
  });
  try {
    const handler = await loadHandler(root, process.env._HANDLER);
    runtime = new Runtime(client, handler);
  } catch (e) {
    return die('Uncaught Exception', e, 1);
  }
  runtime.next();
}

main();

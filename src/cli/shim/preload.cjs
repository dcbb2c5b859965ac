// Brings Node behind pixtoll where it reads no proxy variables: before 22.21, and 24 before 24.5.
//
// `fetch` asks one global dispatcher, `https` one kind of agent: both get their sockets here from a tunnel through the
// proxy. What NO_PROXY names stays direct, and so does plain http. A Node that can do it by itself is left alone.
'use strict';

const env = process.env;
const url = env.https_proxy || env.HTTPS_PROXY || env.all_proxy || env.ALL_PROXY;
const itself = process.allowedNodeEnvironmentFlags.has('--use-env-proxy');
if (env.PIXTOLL_ACTIVE && url && !itself) install(new URL(url));

function install(proxy) {
  const https = require('node:https');
  const net = require('node:net');
  const tls = require('node:tls');
  const direct = exceptions(env.no_proxy || env.NO_PROXY || '');

  // A socket to `host` through the proxy, once the proxy has said yes.
  function tunnel(host, port, done) {
    const target = `${net.isIPv6(host) ? `[${host}]` : host}:${port}`;
    const lines = [`CONNECT ${target} HTTP/1.1`, `Host: ${target}`];
    if (proxy.username || proxy.password) {
      const who = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
      lines.push(`Proxy-Authorization: Basic ${Buffer.from(who).toString('base64')}`);
    }
    const socket = net.connect(Number(proxy.port) || 80, proxy.hostname.replace(/^\[|\]$/g, ''));
    let head = Buffer.alloc(0);
    const finish = (error) => {
      socket.off('data', read).off('error', finish).off('close', closed);
      if (error) socket.destroy();
      done(error, error ? undefined : socket);
    };
    const closed = () => finish(new Error(`the proxy closed the tunnel to ${target}`));
    const read = (chunk) => {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      const status = head.toString('latin1', 0, head.indexOf('\r\n'));
      socket.pause();
      if (head.length > end + 4) socket.unshift(head.subarray(end + 4));
      finish(/^HTTP\/1\.[01] 200\b/.test(status) ? null : new Error(`the proxy refused the tunnel to ${target}: ${status}`));
    };
    socket.on('data', read).on('error', finish).on('close', closed);
    socket.on('connect', () => socket.write(`${lines.join('\r\n')}\r\n\r\n`));
  }

  const connect = https.Agent.prototype.createConnection;
  https.Agent.prototype.createConnection = function createConnection(...given) {
    const done = typeof given.at(-1) === 'function' ? given.pop() : undefined;
    const options = given.find((part) => part && typeof part === 'object');
    const { host = options?.hostname, port = 443 } = options ?? {};
    if (!done || !host || options.socket || options.socketPath || direct(host, port)) {
      return connect.apply(this, done ? [...given, done] : given);
    }
    tunnel(host, port, (error, socket) => {
      if (error) return done(error);
      done(null, connect.call(this, { ...options, socket }));
    });
    return undefined;
  };

  // Touching a class of fetch's loads what Node brings along for it, and with it the global dispatcher.
  void globalThis.Headers;
  const slot = Symbol.for('undici.globalDispatcher.1');
  const Agent = globalThis[slot]?.constructor;
  if (!Agent) return;
  globalThis[slot] = new Agent({
    connect({ hostname, host, protocol, port, servername }, done) {
      const name = hostname.replace(/^\[|\]$/g, '');
      const secure = protocol === 'https:';
      const number = Number(port) || (secure ? 443 : 80);
      const over = (socket) => {
        const options = { servername: servername || (net.isIP(name) ? '' : name), ALPNProtocols: ['http/1.1'] };
        const stream = secure
          ? tls.connect(socket ? { ...options, socket } : { ...options, host: name, port: number })
          : net.connect(number, name);
        stream.setNoDelay(true);
        const failed = (error) => done(error, null);
        stream.once('error', failed);
        stream.once(secure ? 'secureConnect' : 'connect', () => {
          stream.off('error', failed);
          done(null, stream);
        });
      };
      if (!secure || direct(name, number)) return over();
      tunnel(name, number, (error, socket) => (error ? done(error, null) : over(socket)));
    },
  });
}

// Whether a host and port are among NO_PROXY's.
function exceptions(list) {
  const entries = list.toLowerCase().split(/[\s,]+/).filter(Boolean).map((entry) => {
    const [, name, port] = /^(.*?)(?::(\d+))?$/.exec(entry.replace(/^\*?\./, '').replace(/^\[|\](?=:\d+$|$)/g, ''));
    return name.includes(':') ? { name: entry.replace(/^\[|\]$/g, '') } : { name, port };
  });
  return (host, port) => {
    const asked = host.toLowerCase().replace(/\.$/, '');
    return entries.some(({ name, port: only }) =>
      (!only || only === String(port)) && (name === '*' || asked === name || asked.endsWith(`.${name}`)));
  };
}

// A program that does for others what `thalweg connect` and `thalweg listen --echo` do in tests/lab/moves.sh: standard input to the
// peer, and what comes back to standard output. Google's WebRTC: one ordered data channel; ICE is restarted at once when this
// machine's addresses change, which is looked at ten times a second, or when it says "disconnected" or "failed", and every second
// until it is connected. Descriptions go through the server of others_peer.js, to which it connects anew as often. iroh: one
// stream; it sees to all of that itself, and is told the callee's address at the start (PEER), as it has no relays here.
// usage: others_flow.js MODULES wrtc|iroh dial|listen SERVER
'use strict';
const [modules, stack, role, server] = process.argv.slice(2);
const net = require('net'), lines = require('readline'), os = require('os');
const PORT = 9400, dials = role === 'dial';
const event = what => process.stderr.write(JSON.stringify({ event: what }) + '\n');
const addresses = () => Object.entries(os.networkInterfaces()).flatMap(([n, l]) => l.filter(a => !a.internal).map(a => n + a.address)).join();

let signal = null, hear = () => {}, waiting = [];
const tell = m => (signal && !signal.pending ? signal.write(JSON.stringify(m) + '\n') : waiting.push(m));
function reach() {
    if (signal)
        signal.destroy();
    const s = (signal = net.connect({ port: PORT, host: server, noDelay: true }));
    s.on('error', () => {});
    s.on('connect', () => {
        const late = waiting;
        waiting = [];
        late.forEach(tell);
    });
    s.on('close', () => s === signal && setTimeout(reach, 200));
    lines.createInterface({ input: s }).on('line', l => hear(JSON.parse(l)));
}

function wrtc() {
    const { RTCPeerConnection } = require(`${modules}/@roamhq/wrtc`);
    const urls = ['3478', '3478?transport=tcp', '80?transport=tcp'].map(port => `turn:${server}:${port}`);
    const pc = new RTCPeerConnection({ iceServers: [{ urls: `stun:${server}:3478` }, { urls, username: 'user', credential: 'pass' }] });
    let turn = Promise.resolve(), was = addresses(), since = Date.now();
    const describe = async d => {
        await pc.setLocalDescription(d);
        tell({ sdp: pc.localDescription });
    };
    const take = async m => {
        if (m.restart)
            return dials && offer();
        if (!m.sdp)
            return pc.addIceCandidate(m.candidate);
        await pc.setRemoteDescription(m.sdp);
        if (!dials)
            await describe(await pc.createAnswer());
    };
    const offer = async () => {
        if (pc.signalingState === 'have-local-offer') // the answer was lost
            await pc.setLocalDescription({ type: 'rollback' }).catch(() => {});
        since = Date.now();
        await describe(await pc.createOffer({ iceRestart: true }));
    };
    const next = f => (turn = turn.then(f).catch(() => {}));
    const restart = () => {
        since = Date.now();
        dials ? next(offer) : tell({ restart: true });
    };
    const use = c => {
        c.binaryType = 'arraybuffer';
        if (!dials)
            return (c.onmessage = e => c.send(e.data));
        c.onopen = () => {
            event('connected');
            process.stdin.on('data', b => c.send(b));
        };
        c.onmessage = e => process.stdout.write(Buffer.from(e.data));
    };
    hear = m => next(() => take(m));
    pc.onicecandidate = e => e.candidate && tell({ candidate: e.candidate });
    pc.ondatachannel = e => use(e.channel);
    pc.oniceconnectionstatechange = () => ['disconnected', 'failed'].includes(pc.iceConnectionState) && restart();
    setInterval(() => {
        const now = addresses();
        if (now !== was && now) {
            was = now;
            reach();
            restart();
        } else if (['disconnected', 'failed', 'checking'].includes(pc.iceConnectionState) && Date.now() - since > 1000) {
            reach();
            restart();
        }
    }, 100);
    if (dials) {
        use(pc.createDataChannel('x'));
        pc.createOffer().then(describe);
    }
}

async function iroh() {
    const { Endpoint, EndpointAddr, EndpointId } = require(`${modules}/@number0/iroh`);
    const b = Endpoint.builder(), alpn = [...Buffer.from('bench/1')];
    b.applyMinimal();
    b.alpns([alpn]);
    if (!dials)
        b.bindAddr('0.0.0.0:9401');
    const endpoint = await b.bind();
    if (!dials) {
        hear = m => m.who && tell({ id: endpoint.id().toString() });
        event('online');
        const c = await (await (await endpoint.acceptNext()).accept()).connect();
        const s = await c.acceptBi();
        for (;;)
            await s.send.writeAll(await s.recv.read(65536));
    }
    const id = await new Promise(r => (hear = m => m.id && r(m.id), tell({ who: true })));
    const c = await endpoint.connect(new EndpointAddr(EndpointId.fromString(id), null, [`${process.env.PEER}:9401`]), alpn);
    const s = await c.openBi();
    let turn = Promise.resolve();
    event('connected');
    process.stdin.on('data', b => (turn = turn.then(() => s.send.writeAll([...b]))));
    for (;;)
        process.stdout.write(Buffer.from(await s.recv.read(65536)));
}

reach();
process.stdin.on('end', () => process.exit(0));
if (stack === 'iroh')
    iroh();
else {
    wrtc();
    if (!dials)
        event('online');
}

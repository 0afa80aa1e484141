// One side of what bench/others.sh compares with: libdatachannel, Google's WebRTC, iroh. Descriptions and candidates go
// by the mailboxes of the third kind of process, "server", as lines of JSON over TCP. Prints "dial MS", when it began, and
// "byte MS", when the first message was at the other side; by the machine's monotonic clock, which both share.
// usage: others_peer.js MODULES server | MODULES datachannel|wrtc|iroh dial|listen SERVER RUNS
'use strict';
const [modules, stack, role, server, runs] = process.argv.slice(2);
const net = require('net'), lines = require('readline');
const PORT = 9400, ms = () => (Number(process.hrtime.bigint()) / 1e6).toFixed(3);
const say = (what, run) => console.log(`${what} ${ms()} ${run}`);

if (stack === 'server') {
    const all = new Set();
    net.createServer({ noDelay: true }, s => {
        all.add(s);
        s.on('error', () => {});
        s.on('close', () => all.delete(s));
        lines.createInterface({ input: s }).on('line', l => all.forEach(o => o !== s && o.write(l + '\n')));
    }).listen(PORT, '0.0.0.0', () => console.log('ready'));
    return;
}

const signal = net.connect({ port: PORT, host: server, noDelay: true });
const tell = m => signal.write(JSON.stringify(m) + '\n');
let hear = () => {};
lines.createInterface({ input: signal }).on('line', l => hear(JSON.parse(l)));
const sleep = t => new Promise(r => setTimeout(r, t));

const datachannel = {
    start(run, dials) {
        const { PeerConnection } = require(`${modules}/node-datachannel`);
        const pc = new PeerConnection(role, { iceServers: [`stun:${server}:3478`, `turn:user:pass@${server}:3478`] });
        pc.onLocalDescription((sdp, type) => tell({ run, sdp, type }));
        pc.onLocalCandidate((candidate, mid) => tell({ run, candidate, mid }));
        pc.onDataChannel(c => c.onMessage(() => say('byte', run)));
        hear = m => {
            if (m.run !== run && !dials)
                return pc.close(), this.start(m.run, false), hear(m);
            if (m.run === run && m.sdp)
                pc.setRemoteDescription(m.sdp, m.type);
            else if (m.run === run)
                pc.addRemoteCandidate(m.candidate, m.mid);
        };
        const c = dials && pc.createDataChannel('x');
        if (c)
            c.onOpen(() => c.sendMessage('x'));
        return () => pc.close();
    },
};

const wrtc = {
    start(run, dials) {
        const { RTCPeerConnection } = require(`${modules}/@roamhq/wrtc`);
        const urls = `turn:${server}:3478`;
        const pc = new RTCPeerConnection({ iceServers: [{ urls: `stun:${server}:3478` }, { urls, username: 'user', credential: 'pass' }] });
        let turn = Promise.resolve(); // one after the other
        pc.onicecandidate = e => e.candidate && tell({ run, candidate: e.candidate });
        pc.ondatachannel = e => (e.channel.onmessage = () => say('byte', run));
        const describe = async d => {
            await pc.setLocalDescription(d);
            tell({ run, sdp: pc.localDescription });
        };
        const take = async m => {
            if (!m.sdp)
                return pc.addIceCandidate(m.candidate);
            await pc.setRemoteDescription(m.sdp);
            if (!dials)
                await describe(await pc.createAnswer());
        };
        hear = m => {
            if (m.run !== run && !dials)
                return pc.close(), this.start(m.run, false), hear(m);
            if (m.run === run)
                turn = turn.then(() => take(m)).catch(() => {});
        };
        if (dials) {
            const c = pc.createDataChannel('x');
            c.onopen = () => c.send('x');
            pc.createOffer().then(describe);
        }
        return () => pc.close();
    },
};

// Without its relays and its discovery, which are somebody's servers: the callee's address is known.
const iroh = {
    async open() {
        const { Endpoint } = require(`${modules}/@number0/iroh`);
        this.alpn = [...Buffer.from('bench/1')];
        const b = Endpoint.builder();
        b.applyMinimal();
        b.alpns([this.alpn]);
        if (role === 'listen')
            b.bindAddr('0.0.0.0:9401');
        this.endpoint = await b.bind();
        if (role === 'listen')
            hear = m => m.who && tell({ id: this.endpoint.id().toString() });
    },
    async listen() {
        for (let run = 0;; run++) {
            const c = await (await (await this.endpoint.acceptNext()).accept()).connect();
            const s = await c.acceptBi();
            await s.recv.read(1);
            say('byte', run);
        }
    },
    async dial(run) {
        const { EndpointAddr, EndpointId } = require(`${modules}/@number0/iroh`);
        const id = await new Promise(r => (hear = m => m.id && r(m.id), tell({ who: true })));
        const to = new EndpointAddr(EndpointId.fromString(id), null, [`${process.env.PEER}:9401`]);
        say('dial', run);
        const c = await this.endpoint.connect(to, this.alpn);
        const s = await c.openBi();
        await s.send.writeAll([1]);
        await sleep(700);
        c.close(0n, [0]);
    },
};

(async () => {
    await new Promise(r => signal.once('connect', r));
    if (stack === 'iroh') {
        await iroh.open();
        console.log('ready');
        if (role === 'listen')
            return iroh.listen();
        for (let run = 0; run < runs; run++)
            await iroh.dial(run);
        process.exit(0);
    }
    const s = { datachannel, wrtc }[stack];
    console.log('ready');
    if (role === 'listen')
        return s.start(-1, false);
    for (let run = 0; run < runs; run++) {
        await sleep(500);
        say('dial', run);
        const end = s.start(run, true);
        await sleep(3000);
        end();
    }
    process.exit(0);
})();

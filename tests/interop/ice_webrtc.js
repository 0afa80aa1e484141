// Two WebRTC peers that see only our ICE agents (see icebridge.c) exchange messages through them; the
// same for a browser and for node. `base` is the web server of ice_webrtc.py.
const ICE = /^a=(candidate|ice-ufrag|ice-pwd|ice-options|end-of-candidates)/;

function iceOf(sdp) {
    return sdp.split(/\r?\n/).filter(l => ICE.test(l)).join('\n');
}

function withIce(sdp, lines) {
    const kept = sdp.split(/\r?\n/).filter(l => l && !ICE.test(l));
    return kept.concat(lines.trim().split('\n')).join('\r\n') + '\r\n';
}

// The description with our credentials, then our candidates one by one, as in trickling.
async function tell(pc, type, sdp, lines) {
    const all = lines.trim().split('\n');
    const mid = /^a=mid:(\S+)/m.exec(sdp)[1];
    await pc.setRemoteDescription({ type, sdp: withIce(sdp, all.filter(l => !/^a=(candidate|end)/.test(l)).join('\n')) });
    for (const l of all.filter(l => l.startsWith('a=candidate')))
        await pc.addIceCandidate({ candidate: l.slice(2), sdpMid: mid, sdpMLineIndex: 0 });
}

function gathered(pc) {
    return new Promise(resolve => {
        const look = () => {
            if (pc.iceGatheringState === 'complete')
                resolve();
            else
                setTimeout(look, 20);
        };
        look();
    });
}

async function get(url, body) {
    const r = await fetch(url, body === undefined ? {} : { method: 'POST', body });
    if (!r.ok)
        throw new Error(`${url}: ${r.status} ${await r.text()}`);
    return r.text();
}

// how: the transport of our agents, and the relay that they use; or "theirs" and the relay that A uses.
async function bridged(A, B, base, how, count) {
    const [first, ip, port] = how.split(' '), theirs = first === 'theirs';
    await get(`${base}/start`, theirs ? 'udp' : how);
    const a = new A(!theirs ? { iceServers: [] }
                            : { iceServers: [{ urls: [`turn:${ip}:${port}`], username: 'user', credential: 'pass' }],
                                iceTransportPolicy: 'relay' });
    const b = new B({ iceServers: [] });
    const channel = a.createDataChannel('x');
    let got = 0;
    const done = new Promise((resolve, reject) => {
        setTimeout(() => reject(new Error(`${how}: ${got} of ${count} messages, ${a.iceConnectionState}, ` +
                                          `${b.iceConnectionState}`)), 20000);
        b.ondatachannel = e => {
            e.channel.onmessage = m => e.channel.send(m.data);
        };
        channel.onopen = () => channel.send('0');
        channel.onmessage = m => {
            if (m.data !== String(got))
                reject(new Error(`${how}: expected ${got}, got ${m.data}`));
            if (++got === count)
                resolve();
            else
                channel.send(String(got));
        };
    });
    await a.setLocalDescription(await a.createOffer());
    await gathered(a);
    await get(`${base}/remote/0`, iceOf(a.localDescription.sdp));
    await tell(b, 'offer', a.localDescription.sdp, await get(`${base}/local/1`));
    await b.setLocalDescription(await b.createAnswer());
    await gathered(b);
    await get(`${base}/remote/1`, iceOf(b.localDescription.sdp));
    await tell(a, 'answer', b.localDescription.sdp, await get(`${base}/local/0`));
    await done;
    const paths = await get(`${base}/paths`);
    a.close();
    b.close();
    const wanted = theirs ? ['udp relay', 'udp'] : Array(2).fill(ip ? `${first} relay` : first);
    if (paths !== wanted.join(';'))
        throw new Error(`${how}: the paths are ${paths}`);
    return `ok: ${how}: ${got} messages there and back`;
}

async function all(A, B, base, cases, say) {
    try {
        for (const how of cases)
            say(await bridged(A, B, base, how, 50));
        say('all done');
    } catch (e) {
        say(`FAILED: ${e.message}`);
    }
}

if (typeof module !== 'undefined') {
    const [, , first, second, base, ...cases] = process.argv;
    const stack = name => require(name === 'wrtc' ? '@roamhq/wrtc' : 'node-datachannel/polyfill').RTCPeerConnection;
    all(stack(first), stack(second), base, cases, line => console.log(`${line} (${first}, ${second})`))
        .then(() => process.exit(0));
}

// Two peer connections that may use only relayed candidates exchange messages; the same for a browser
// and for node. Resolves to a line of text, rejects with what went wrong.
async function relayed(RTCPeerConnection, url, count) {
    const config = { iceServers: [{ urls: [url], username: 'user', credential: 'pass' }],
                     iceTransportPolicy: 'relay' };
    const a = new RTCPeerConnection(config), b = new RTCPeerConnection(config);
    const kinds = new Set();
    const pass = (from, to) => {
        from.onicecandidate = e => {
            if (!e.candidate || !e.candidate.candidate)
                return;
            kinds.add(/ typ (\w+)/.exec(e.candidate.candidate)[1]);
            to.addIceCandidate(e.candidate).catch(() => {});
        };
    };
    pass(a, b);
    pass(b, a);
    const channel = a.createDataChannel('x');
    let got = 0;
    const done = new Promise((resolve, reject) => {
        setTimeout(() => reject(new Error(`${url}: ${got} of ${count} messages, candidates: ` +
                                          `${[...kinds].join(' ')}, ${a.iceConnectionState}`)), 15000);
        b.ondatachannel = e => {
            e.channel.onmessage = m => e.channel.send(m.data);
        };
        channel.onopen = () => channel.send('0');
        channel.onmessage = m => {
            if (m.data !== String(got))
                reject(new Error(`${url}: expected ${got}, got ${m.data}`));
            if (++got === count)
                resolve();
            else
                channel.send(String(got));
        };
    });
    await a.setLocalDescription(await a.createOffer());
    await b.setRemoteDescription(a.localDescription);
    await b.setLocalDescription(await b.createAnswer());
    await a.setRemoteDescription(b.localDescription);
    await done;
    a.close();
    b.close();
    if (kinds.size !== 1 || !kinds.has('relay'))
        throw new Error(`${url}: candidates of other kinds: ${[...kinds].join(' ')}`);
    return `ok: ${url}: ${got} messages there and back`;
}

async function all(RTCPeerConnection, urls, say) {
    try {
        for (const url of urls)
            say(await relayed(RTCPeerConnection, url, 50));
        say('all done');
    } catch (e) {
        say(`FAILED: ${e.message}`);
    }
}

if (typeof module !== 'undefined') {
    const { RTCPeerConnection } = require('@roamhq/wrtc');
    all(RTCPeerConnection, process.argv.slice(2), line => console.log(line)).then(() => process.exit(0));
}

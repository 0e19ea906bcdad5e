// The status page. It asks /api/v1/overview every two seconds for what is shown, and nothing else. Names, reasons and answers of checks
// come from outside: they are written as text (textContent), never as markup.
'use strict';

const INTERVAL_MS = 2000;   // Between two questions.
const PATIENCE_MS = 8000;   // For one answer.
const STALE_MS = 7000;      // Without an answer for so long, figures are old.
const LIMIT = 50;           // Virtual servers at a time: what is not seen is not drawn.
const COURSE = 60;          // Values of a sparkline.
const EVENTS = 100;         // Events that are listed.
const MOVED_MS = 300000;    // A reason for drops is shown for so long after the last one.
const FEW = 60;             // So many real servers are shown from the start.

const by = id => document.getElementById(id);

// ---- Numbers and times as people read them

const grouped = new Intl.NumberFormat('en');
const count = number => grouped.format(number);

// Three digits with a unit, once there are more than four.
function short(number) {
  if (number < 10000) return count(number > 0 && number < 10 ? Math.round(number * 10) / 10 : Math.round(number));
  const units = ['k', 'M', 'G', 'T', 'P'];
  let place = -1;
  while (number >= 999.5 && place + 1 < units.length) { number /= 1000; place += 1; }
  return `${number.toFixed(number < 9.995 ? 2 : number < 99.95 ? 1 : 0)} ${units[place]}`;
}

const percent = share => `${(share * 100).toFixed(1)} %`;

function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

// This browser's time; with the day, if that is not today.
function clock(seconds) {
  const at = new Date(seconds * 1000);
  const two = number => String(number).padStart(2, '0');
  const time = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(':');
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? time : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

// ---- The document

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mark(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// Keeps one part of the document for each key, in the order of the items; what stays is not touched, so it keeps its focus.
class Parts {
  constructor(parent, build, after = null) {
    Object.assign(this, { parent, build, after, known: new Map() });
  }

  show(items, key, fill) {
    const wanted = new Set(items.map(key));
    for (const [name, part] of this.known) {
      if (!wanted.has(name)) { part.node.remove(); this.known.delete(name); }
    }
    let next = this.after ? this.after.nextElementSibling : this.parent.firstElementChild;
    for (const item of items) {
      let part = this.known.get(key(item));
      if (!part) { part = this.build(item); this.known.set(key(item), part); }
      if (part.node === next) next = next.nextElementSibling;
      else this.parent.insertBefore(part.node, next);
      fill(part, item);
    }
  }
}

// A row of a table: its cells, of these classes; the first one names it.
function row(classes, className = '') {
  const cells = classes.map((name, place) => make(place ? 'td' : 'th', place ? { class: name } : { class: name, scope: 'row' }));
  return { node: make('tr', { class: className }, ...cells), cells };
}

// How something is, with a few words more.
function state(cell, word, text, more = '') {
  if (!cell.chip) cell.append(cell.chip = make('span'), ' ', cell.more = make('span', { class: 'more' }));
  mark(cell.chip, 'class', `state ${word}`);
  say(cell.chip, text);
  say(cell.more, more);
}

// ---- Sparklines

const SVG = 'http://www.w3.org/2000/svg';
const courses = new Map();
let moment = 0;

// Notes a value of the moment that is shown, and returns all that are known.
function course(key, value) {
  let known = courses.get(key);
  if (!known) courses.set(key, known = { values: [], moment: 0 });
  if (known.moment !== moment) {
    known.values.push(value);
    known.values.splice(0, known.values.length - COURSE);
    known.moment = moment;
  }
  return known.values;
}

// Forgets what has not been looked at for the length of a sparkline.
function forgetCourses() {
  for (const [key, known] of courses) if (moment - known.moment > COURSE * INTERVAL_MS / 1000) courses.delete(key);
}

function sparkline(parent) {
  const part = (tag, attributes) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const svg = part('svg', { class: 'spark', viewBox: `0 0 ${COURSE - 1} 20`, preserveAspectRatio: 'none', 'aria-hidden': 'true', focusable: 'false' });
  svg.append(part('path', { class: 'under' }), part('path', { class: 'line' }));
  parent.append(svg);
  return svg;
}

function draw(parent, values, top = 0) {
  const svg = parent.spark ??= sparkline(parent);
  const [under, line] = svg.children;
  if (values.length < 2) return;
  const highest = Math.max(top, 1e-9, ...values);
  // The first minute is drawn wider, so that it can be seen.
  const step = (COURSE - 1) / (Math.max(values.length, COURSE / 3) - 1);
  const across = place => (COURSE - 1 - (values.length - 1 - place) * step).toFixed(2);
  const points = values.map((value, place) => `${across(place)} ${(19 - 18 * value / highest).toFixed(2)}`).join('L');
  mark(line, 'd', `M${points}`);
  mark(under, 'd', `M${across(0)} 20L${points}L${COURSE - 1} 20Z`);
}

// ---- What is looked at

const COLUMNS = [
  { title: 'Virtual server, real servers', sort: 'name', class: '' },
  { title: 'State', sort: 'state', class: '' },
  { title: 'Weight', class: 'n tight', help: 'Share of new connections; 0: gets none' },
  { title: 'Active', sort: 'active', class: 'n', help: 'Connections in an active state, as ipvsadm counts them' },
  { title: 'Inactive', sort: 'inactive', class: 'n tight', help: 'Connections in any other state' },
  { title: 'New/s', sort: 'connections', class: 'n', help: 'New connections in a second' },
  { title: '', class: 'tight', unseen: 'Course of new connections' },
  { title: 'Packets/s in', sort: 'in_packets', class: 'n wide', help: 'Packets from clients in a second' },
  { title: 'out', sort: 'out_packets', class: 'n wide', help: 'Packets to clients in a second, where they pass weir' },
  { title: 'Bit/s in', sort: 'in_bytes', class: 'n mid', help: 'Bits from clients in a second' },
  { title: 'out', sort: 'out_bytes', class: 'n mid', help: 'Bits to clients in a second, where they pass weir' },
  { title: 'Connections', class: 'n wide', help: 'New connections in all' },
];
const CLASSES = COLUMNS.map(column => column.class);

const look = { search: '', down: false, sort: '', descending: false, first: 0, unfold: null, turned: new Set() };

function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  look.search = said.get('search') ?? '';
  look.down = said.has('down');
  look.sort = COLUMNS.some(column => column.sort === said.get('sort')) ? said.get('sort') : '';
  look.descending = said.has('descending');
  look.first = Math.max(0, parseInt(said.get('first'), 10) || 0);
  by('search').value = look.search;
  by('only-down').checked = look.down;
}

// So that a reload, and who is sent the address, sees the same.
function writeAddress() {
  const said = new URLSearchParams();
  if (look.search) said.set('search', look.search);
  if (look.down) said.set('down', 'yes');
  if (look.sort) said.set('sort', look.sort);
  if (look.descending) said.set('descending', 'yes');
  if (look.first) said.set('first', look.first);
  history.replaceState(null, '', said.size ? `#${said}` : location.pathname);
}

function question() {
  const asked = new URLSearchParams({ limit: LIMIT });
  if (look.search) asked.set('search', look.search);
  if (look.down) asked.set('state', 'down');
  if (look.sort) asked.set('sort', look.sort);
  if (look.sort && look.descending) asked.set('descending', 'yes');
  if (look.first) asked.set('first', look.first);
  if (look.unfold) asked.set('unfold', 'yes');
  else if (look.unfold === false) for (const name of look.turned) asked.append('open', name);
  return `/api/v1/overview?${asked}`;
}

const isOpen = name => look.unfold !== look.turned.has(name) && look.unfold !== null;

function change(what) {
  Object.assign(look, what);
  writeAddress();
  heads();
  ask();
}

// ---- Virtual servers

const headCells = COLUMNS.map(column => {
  const cell = make('th', { scope: 'col', class: column.class });
  if (column.sort) {
    cell.button = make('button', { type: 'button' }, column.title);
    cell.button.addEventListener('click', () => sortBy(column));
    if (column.help) cell.button.title = column.help;
    cell.append(cell.button);
  } else if (column.unseen) {
    cell.append(make('span', { class: 'unseen' }, column.unseen));
  } else {
    cell.append(column.title);
    if (column.help) cell.title = column.help;
  }
  return cell;
});
by('heads').append(...headCells);

// First the way that people mostly want, then the other one, then the order of the file again.
function sortBy(column) {
  const wordsFirst = column.sort === 'name' || column.sort === 'state';
  if (look.sort !== column.sort) change({ sort: column.sort, descending: !wordsFirst, first: 0 });
  else if (look.descending !== wordsFirst) change({ descending: wordsFirst, first: 0 });
  else change({ sort: '', descending: false, first: 0 });
}

function heads() {
  COLUMNS.forEach((column, place) => {
    const isIt = column.sort && column.sort === look.sort;
    mark(headCells[place], 'aria-sort', isIt ? (look.descending ? 'descending' : 'ascending') : null);
  });
  say(by('unfold'), look.unfold ? 'Fold all' : 'Unfold all');
}

const groups = new Parts(by('list'), server => {
  const head = row(CLASSES);
  const fold = make('button', { type: 'button', class: 'fold' });
  const [title, where] = [make('span'), make('span', { class: 'where' })];
  mark(head.cells[0], 'scope', 'rowgroup');
  head.cells[0].append(make('div', { class: 'name' }, fold, make('span', {}, title, where)));
  fold.addEventListener('click', () => {
    if (!look.turned.delete(server.name)) look.turned.add(server.name);
    ask();
    if (shown) servers(shown);
  });
  const node = make('tbody', {}, head.node);
  const more = make('td', { colspan: COLUMNS.length, class: 'dim' });
  return { node, head, fold, title, where, more: make('tr', { class: 'real' }, more), reals: new Parts(node, real, head.node) };
}, by('list').tHead);

function real() {
  const part = row(CLASSES, 'real');
  part.tag = make('span', { class: 'tag' });
  part.title = make('span');
  part.why = make('span', { class: 'why' });
  part.cells[0].append(part.title, part.tag, part.why);
  return part;
}

function whereOf(server) {
  if (server.mark !== undefined) return `mark ${server.mark}, ${server.family}`;
  const address = server.address.includes(':') ? `[${server.address}]` : server.address;
  return server.port ? `${address}:${server.port} ${server.protocol}` : `${server.address} every port, ${server.protocol}`;
}

// What both kinds of rows have.
function carried(cells, it, key) {
  const second = it.per_second;
  say(cells[2], count(it.weight));
  say(cells[3], count(it.active));
  say(cells[4], count(it.inactive));
  say(cells[5], short(second.connections));
  draw(cells[6], course(key, second.connections), 1);
  say(cells[7], short(second.in_packets));
  say(cells[8], short(second.out_packets));
  say(cells[9], short(second.in_bytes * 8));
  say(cells[10], short(second.out_bytes * 8));
  say(cells[11], count(it.total.connections));
}

const STATES = { up: 'up', partly: 'partly up', sorry: 'sorry server', down: 'down', drained: 'drained' };

function group(part, server, now) {
  const open = isOpen(server.name) && server.real_servers !== undefined;
  say(part.title, server.name);
  say(part.where, `${whereOf(server)} · ${server.scheduler}`);
  mark(part.fold, 'aria-expanded', String(open));
  mark(part.fold, 'aria-label', `Real servers of ${server.name}`);
  state(part.head.cells[1], server.state, STATES[server.state] ?? server.state, `${server.servers - server.servers_down} of ${server.servers}`);
  carried(part.head.cells, server, `v ${server.name}`);
  const listed = open ? server.real_servers : [];
  part.more.remove();
  part.reals.show(listed, it => it.real_server, (line, it) => realServer(line, it, server.name, now));
  if (open && listed.length < server.servers) {
    say(part.more.firstChild, `and ${count(server.servers - listed.length)} more, in /api/v1/virtual_servers`);
    part.node.append(part.more);
  }
}

function realServer(part, it, name, now) {
  say(part.title, it.real_server);
  say(part.tag, it.forwarding ?? 'out of service');
  state(part.cells[1], it.state, STATES[it.state] ?? it.state, it.changed_at === null ? '' : span(now - it.changed_at));
  const reasons = [it.reason, it.last_check].filter((text, place, all) => text && all.indexOf(text) === place);
  say(part.why, it.state === 'down' ? reasons.join(' · ') : '');
  mark(part.cells[1], 'title', reasons.length ? reasons.join(' · ') : null);
  carried(part.cells, it, `r ${name} ${it.real_server}`);
}

function servers(it) {
  look.first = it.first;
  groups.show(it.virtual_servers, server => server.name, (part, server) => group(part, server, it.at));
  const [none, nav] = [by('none'), by('pager')];
  none.hidden = it.matching > 0;
  say(none, it.totals.virtual_servers ? 'No virtual server is like that.' : 'The configuration has no virtual server.');
  nav.hidden = it.matching <= LIMIT;
  by('back').disabled = it.first === 0;
  by('next').disabled = it.first + it.virtual_servers.length >= it.matching;
  say(by('place'), `${count(it.first + 1)} to ${count(it.first + it.virtual_servers.length)} of ${count(it.matching)}`);
}

// ---- All the rest

const problems = new Parts(by('problems'), problem => {
  const [sign, text] = [make('span', { class: 'mark', 'aria-hidden': 'true' }), make('span')];
  const node = make('li', {}, sign, text);
  if (problem.virtual_server) {
    const button = make('button', { type: 'button', title: 'Look for this virtual server' });
    button.addEventListener('click', () => {
      by('search').value = problem.virtual_server;
      change({ search: problem.virtual_server, first: 0 });
      by('servers').scrollIntoView();
    });
    text.append(button);
    return { node, sign, text: button };
  }
  return { node, sign, text };
});

function wrong(it) {
  problems.show(it.problems, problem => problem.text, (part, problem) => {
    mark(part.node, 'class', problem.severe ? 'severe' : 'fair');
    say(part.sign, problem.severe ? '✕' : '!');
    say(part.text, problem.text);
  });
  const well = by('well');
  well.hidden = it.problems.length > 0;
  mark(well, 'class', 'note good');
  say(well, it.totals.virtual_servers ? '✓ Nothing is wrong.' : '✓ Nothing is wrong, and there is nothing to do: the configuration has no virtual server.');
  // What is wrong when the page is opened is there to be read; what comes later is read aloud.
  setTimeout(() => mark(by('problems'), 'aria-live', 'polite'), 500);
  by('more-problems').hidden = it.more_problems === 0;
  say(by('more-problems'), `and ${count(it.more_problems)} more.`);
}

const tiles = new Parts(by('tiles'), tile => {
  const [value, more, line] = ['value', 'more', 'line'].map(name => make('dd', { class: name }));
  return { node: make('div', { class: 'tile' }, make('dt', {}, tile.title), value, more, line), value, more, line };
});

function summary(it) {
  const { totals, workers } = it;
  const second = totals.per_second;
  const busy = workers.map(worker => worker.busy).filter(share => share !== null);
  const full = totals.capacity ? totals.connections / totals.capacity : 0;
  const busiest = Math.max(0, ...busy);
  const list = [
    { title: 'New connections/s', value: short(second.connections), more: '', of: second.connections, top: 1 },
    { title: 'Active connections', value: count(totals.active), more: `${count(totals.inactive)} inactive`, of: totals.active, top: 1 },
    { title: 'Packets/s in', value: short(second.in_packets), more: `${short(second.out_packets)} out`, of: second.in_packets, top: 1 },
    { title: 'Bit/s in', value: short(second.in_bytes * 8), more: `${short(second.out_bytes * 8)} out`, of: second.in_bytes, top: 1 },
    { title: 'Busiest worker', value: busy.length ? percent(busiest) : '–', more: `of ${workers.length}`, of: busiest, top: 1 },
    { title: 'Connection tables', value: `${percent(full)} full`, more: `${count(totals.connections)} of ${count(totals.capacity)}`, of: full, top: 1 },
    { title: 'Real servers up', value: count(totals.real_servers - totals.real_servers_down),
      more: `of ${count(totals.real_servers)} · virtual servers: ${count(totals.virtual_servers - totals.virtual_servers_down)} of ${count(totals.virtual_servers)}`,
      of: totals.real_servers - totals.real_servers_down, top: Math.max(1, totals.real_servers) },
  ];
  tiles.show(list, tile => tile.title, (part, tile) => {
    say(part.value, tile.value);
    say(part.more, tile.more);
    draw(part.line, course(`t ${tile.title}`, tile.of), tile.top);
  });
}

const table = (id, classes) => new Parts(by(id).tBodies[0], () => row(classes));
const workerRows = table('workers', ['', 'n', 'n mid', 'n', 'n', 'n mid']);
const portRows = table('ports', ['', '', 'n', 'n', 'n mid', 'n mid', 'n']);
const vrrpRows = table('vrrp', ['', '', '', 'mid', 'mid', 'n wide', 'n', 'wide', 'n wide']);
const dropRows = table('drops', ['', 'n', 'n']);
const restRows = table('rest', ['', 'n']);
const eventRows = table('events', ['n', '']);

function workers(it) {
  workerRows.show(it.workers, worker => worker.worker, ({ cells }, worker) => {
    say(cells[0], String(worker.worker));
    say(cells[1], worker.stuck ? 'is stuck' : worker.busy === null ? '–' : percent(worker.busy));
    draw(cells[2], course(`w ${worker.worker}`, worker.busy ?? 0), 1);
    say(cells[3], count(worker.connections));
    say(cells[4], percent(worker.capacity ? worker.connections / worker.capacity : 0));
    say(cells[5], `${count(Math.round(worker.longest_pass_seconds * 1e6))} µs`);
  });
}

function ports(it) {
  portRows.show(it.ports, port => port.port, ({ cells }, port) => {
    const second = port.per_second;
    const rate = (name, times = 1) => second ? short(second[name] * times) : '–';
    say(cells[0], port.vlan === null ? port.port : `${port.port}, VLAN ${port.vlan}`);
    state(cells[1], port.link_up === null ? 'unknown' : port.link_up ? 'up' : 'down', port.link_up === null ? 'not known' : port.link_up ? 'up' : 'down');
    say(cells[2], rate('receive_packets'));
    say(cells[3], rate('transmit_packets'));
    say(cells[4], rate('receive_bytes', 8));
    say(cells[5], rate('transmit_bytes', 8));
    say(cells[6], port.lost === null ? '–' : count(port.lost));
  });
}

function vrrp(it) {
  by('vrrp-part').hidden = it.vrrp.length === 0;
  vrrpRows.show(it.vrrp, router => router.instance, ({ cells }, router) => {
    say(cells[0], router.instance);
    state(cells[1], router.state, router.state, router.fault ?? '');
    say(cells[2], clock(router.changed_at));
    mark(cells[2], 'title', `${span(it.at - router.changed_at)} ago`);
    say(cells[3], router.addresses.join(', ') + (router.more_addresses ? ` and ${router.more_addresses} more` : ''));
    say(cells[4], router.port);
    say(cells[5], String(router.virtual_router_id));
    say(cells[6], String(router.priority));
    say(cells[7], router.heard_from === null ? 'nobody' : `${router.heard_from}, ${span(router.heard_seconds_ago)} ago`);
    say(cells[8], count(router.became_master));
  });
}

const moved = new Map();
let dropped = null;

function drops(it) {
  const now = Date.now();
  for (const drop of it.drops) {
    const before = dropped?.get(drop.reason) ?? 0;
    if (drop.per_second > 0 || (dropped && drop.total > before)) moved.set(drop.reason, now);
  }
  dropped = new Map(it.drops.map(drop => [drop.reason, drop.total]));
  const moves = drop => now - (moved.get(drop.reason) ?? 0) < MOVED_MS;
  const [moving, rest] = [it.drops.filter(moves), it.drops.filter(drop => !moves(drop))];
  const name = (cell, drop) => {
    if (!cell.reason) cell.append(cell.reason = make('span'), cell.why = make('span', { class: 'why' }));
    say(cell.reason, drop.reason);
    say(cell.why, drop.meaning);
  };
  by('no-drops').hidden = moving.length > 0;
  by('drops-part').hidden = moving.length === 0;
  by('rest-part').hidden = rest.length === 0;
  say(by('rest-title'), `${count(rest.length)} ${rest.length === 1 ? 'reason' : 'reasons'} that did not move`);
  dropRows.show(moving, drop => drop.reason, ({ cells }, drop) => {
    name(cells[0], drop);
    say(cells[1], drop.per_second === null ? '–' : short(drop.per_second));
    say(cells[2], count(drop.total));
  });
  restRows.show(rest, drop => drop.reason, ({ cells }, drop) => {
    name(cells[0], drop);
    say(cells[1], count(drop.total));
  });
}

let [events, asksForEvents] = [[], false];

async function moreEvents(newest) {
  // A weir that was started anew counts from 1.
  if (events.length && newest < events[0].number) events = [];
  const last = events.length ? events[0].number : 0;
  if (newest === last || asksForEvents) return;
  asksForEvents = true;
  try {
    const answer = await fetch(`/api/v1/events?after=${last}`, { signal: AbortSignal.timeout(PATIENCE_MS), cache: 'no-store' });
    if (!answer.ok) return;
    events = [...(await answer.json()).events.reverse(), ...events].slice(0, EVENTS);
  } finally {
    asksForEvents = false;
  }
  eventRows.show(events, event => `${event.number} ${event.at}`, ({ cells }, event) => {
    say(cells[0], clock(event.at));
    if (!cells[1].text) {
      cells[1].append(cells[1].level = make('span'), cells[1].text = make('span'));
    }
    mark(cells[1].level, 'class', event.level === 'info' ? 'level unseen' : `level ${event.level}`);
    say(cells[1].level, `${event.level === 'warn' ? 'warning' : event.level} `);
    say(cells[1].text, event.text);
  });
}

function about(it) {
  say(by('director'), it.director);
  say(by('about'), `weir ${it.version} on DPDK ${it.dpdk_version} · up ${span(it.at - it.started)} · configuration ${it.generation}, file of ${clock(it.reload_at)}`);
}

// ---- Asking, and what becomes of it

let [turn, timer, shown, good, failure, seenAt] = [0, 0, null, 0, '', Date.now()];

async function ask() {
  const mine = ++turn;
  clearTimeout(timer);
  let why = '';
  let it = null;
  try {
    const answer = await fetch(question(), { signal: AbortSignal.timeout(PATIENCE_MS), cache: 'no-store' });
    if (answer.ok) it = await answer.json();
    else why = `It says ${answer.status}: ${(await answer.text()).slice(0, 200).trim()}.`;
  } catch (_) {
    why = 'It does not answer.';
  }
  if (mine !== turn) return;
  failure = why;
  if (it) {
    good = Date.now();
    show(it);
  }
  pulse();
  if (!document.hidden) timer = setTimeout(ask, INTERVAL_MS);
}

function show(it) {
  moment = it.at;
  shown = it;
  if (look.unfold === null) {
    look.unfold = it.totals.real_servers <= FEW;
    heads();
    if (look.unfold) ask();
  }
  about(it);
  wrong(it);
  summary(it);
  servers(it);
  vrrp(it);
  workers(it);
  ports(it);
  drops(it);
  forgetCourses();
  moreEvents(it.newest_event).catch(() => {});
}

// How old what is shown is. The sentence that is read aloud holds no figure that changes.
function pulse() {
  if (document.hidden) return;
  const age = Date.now() - (good || seenAt);
  const isStale = Boolean(failure) || Date.now() - Math.max(good, seenAt) > STALE_MS;
  const lost = by('lost');
  document.body.classList.toggle('stale', isStale && good > 0);
  mark(by('pulse'), 'class', `pulse ${isStale ? 'bad' : good ? 'good' : 'waits'}`);
  say(by('age'), isStale ? `No answer for ${span(age / 1000)}` : good ? `Live, ${span(age / 1000)} old` : 'Asks weir …');
  if (isStale) {
    const old = good ? ` What is shown here is of ${clock(good / 1000)} and may be wrong by now.` : '';
    say(lost, `weir does not answer any more. ${failure === 'It does not answer.' ? '' : failure}${old}`.trim());
  }
  lost.hidden = !isStale;
  const wrongs = shown ? shown.problems.length + shown.more_problems : 0;
  const name = shown ? `${shown.director} · weir` : 'weir';
  const title = isStale ? `No answer · ${name}` : wrongs ? `${count(wrongs)} wrong · ${name}` : name;
  if (document.title !== title) document.title = title;
}

let typing = 0;
by('search').addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(() => change({ search: by('search').value.trim(), first: 0 }), 250);
});
by('look').addEventListener('submit', event => {
  event.preventDefault();
  clearTimeout(typing);
  change({ search: by('search').value.trim(), first: 0 });
});
by('only-down').addEventListener('change', () => change({ down: by('only-down').checked, first: 0 }));
by('unfold').addEventListener('click', () => {
  look.turned.clear();
  change({ unfold: !look.unfold });
});
by('back').addEventListener('click', () => change({ first: Math.max(0, look.first - LIMIT) }));
by('next').addEventListener('click', () => change({ first: look.first + LIMIT }));
document.addEventListener('visibilitychange', () => {
  seenAt = Date.now();
  if (!document.hidden) ask();
});
document.documentElement.classList.add('runs');
setInterval(pulse, 1000);
readAddress();
heads();
ask();

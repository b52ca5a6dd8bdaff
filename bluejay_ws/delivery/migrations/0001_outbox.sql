-- The outbox of a fleet. Every time is the database's own; every state is in one place.
--
--   pods          agents' processes and when each was last heard of
--   reports       one row for each recorded connection
--   chunks        what was recorded, as bytes of the journal; gone as soon as the report is delivered
--   calls         one row for each id: what is delivered once
--   destinations  the circuit breaker and the rate of each platform, shared by all deliverers
--   fleet         when the database was last seen at work

create table bluejay_ws.pods (
    pod_id uuid primary key,
    host text not null,
    process integer not null,
    version text not null,
    seen_at timestamptz not null default now(),
    left_at timestamptz
);

create table bluejay_ws.reports (
    report_id text primary key check (report_id ~ '^[0-9a-f]{32}$'),
    destination text not null,
    identity text,                          -- the simulation result id; null until it is known
    pod_id uuid not null,
    state text not null default 'live'
        check (state in ('live', 'lost', 'sealed', 'delivered', 'held', 'late', 'no_id')),
    received bigint not null default 0,     -- bytes of the journal that are in chunks, or were
    opened_at timestamptz not null default now(),
    sealed_at timestamptz
) with (fillfactor = 80);
create index reports_of_a_call on bluejay_ws.reports (destination, identity);
create index reports_live on bluejay_ws.reports (pod_id) where state = 'live';
create index reports_stuck on bluejay_ws.reports (sealed_at) where state in ('held', 'late', 'no_id');
create index reports_done on bluejay_ws.reports (sealed_at) where state = 'delivered';

create table bluejay_ws.chunks (
    report_id text not null,
    start bigint not null,
    body bytea not null,
    primary key (report_id, start)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.1);
alter table bluejay_ws.chunks alter body set storage external; -- it stays until the delivery: packing costs, and saves little

create table bluejay_ws.calls (
    destination text not null,
    identity text not null,
    state text not null default 'waiting'
        check (state in ('waiting', 'sending', 'held', 'parked', 'delivered')),
    next_at timestamptz not null default now(), -- when it is due; while it is being sent: when the lease ends
    tried boolean not null default false,
    holder uuid,                                -- the deliverer that has the lease
    history jsonb not null default '{}',
    reason text not null default '',
    detail text not null default '',
    report_ids text[] not null default '{}',    -- what was delivered
    created_at timestamptz not null default now(),
    settled_at timestamptz,
    primary key (destination, identity)
) with (autovacuum_vacuum_scale_factor = 0.02, fillfactor = 70);
create index calls_due on bluejay_ws.calls (destination, tried, next_at) where state in ('waiting', 'sending');
create index calls_stuck on bluejay_ws.calls (destination, state) where state in ('held', 'parked');
create index calls_done on bluejay_ws.calls (settled_at) where state = 'delivered';

create table bluejay_ws.destinations (
    destination text primary key,
    failures integer not null default 0,        -- in a row; from three on the breaker is open
    open_until timestamptz not null default now(),
    recovered_at timestamptz,                   -- when it closed last: the rate grows from there
    rate double precision,                      -- posts in a second, of the whole fleet; null: no limit
    tokens double precision not null default 1,
    filled_at timestamptz not null default now()
);

create table bluejay_ws.fleet (
    single boolean primary key default true check (single),
    seen_at timestamptz not null default now(),
    alive_since timestamptz not null default now()
);
insert into bluejay_ws.fleet default values;

-- An agent's process hands over what it has recorded. It can do nothing else: this is the one thing its role may call.
-- ends: '' the call goes on, 'sealed' it is over, 'lost' its process died, 'gone' it was dropped.
create function bluejay_ws.push(
    p_pod uuid, p_host text, p_process integer, p_version text, p_destination text,
    p_reports text[], p_identities text[], p_starts bigint[], p_bodies bytea[], p_ends text[]
) returns table (report_id text, received bigint, state text)
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
#variable_conflict use_column
declare
    over boolean := p_ends && array['sealed', 'lost', 'gone'];
    known text[];
begin
    if not coalesce(over, false) then -- a crash of the server may forget it: the pod still has it, and brings it again
        perform set_config('synchronous_commit', 'off', true);
    end if;
    update bluejay_ws.pods as pod set seen_at = clock_timestamp(), left_at = null
        where pod.pod_id = p_pod and (pod.left_at is not null or pod.seen_at < clock_timestamp() - interval '1 s');
    insert into bluejay_ws.pods (pod_id, host, process, version) values (p_pod, p_host, p_process, p_version)
        on conflict do nothing;
    if coalesce(cardinality(p_reports), 0) = 0 then
        return;
    end if;
    -- Most reports are new, and whole: each row of theirs is written once.
    with given as materialized (
        select * from unnest(p_reports, p_identities, p_starts, p_bodies, p_ends) as given (r, i, s, b, e)
    ), fresh as (
        insert into bluejay_ws.reports (report_id, destination, identity, pod_id, state, received, sealed_at)
            select r, p_destination, nullif(i, ''), p_pod, case when s > 0 or e = '' then 'live' else e end,
                case s when 0 then octet_length(b) else 0 end, case when e <> '' then clock_timestamp() end
            from given where e <> 'gone' order by r
            on conflict do nothing returning report_id as r
    ), bodies as (
        insert into bluejay_ws.chunks (report_id, start, body)
            select r, s, b from given join fresh using (r) where s = 0 and octet_length(b) > 0
    )
    select array_agg(r) into known from (select r from given except select r from fresh) as others;
    if known is not null then
        perform bluejay_ws.extend(p_pod, known, p_reports, p_identities, p_starts, p_bodies, p_ends);
    end if;
    if over then
        perform bluejay_ws.await_delivery(p_destination, p_reports, interval '0');
    end if;
    return query select report.report_id, report.received, report.state from bluejay_ws.reports as report
        where report.report_id = any (p_reports);
end $$;

-- Add what follows to reports that are there; what does not follow is left out, and the agent asks again.
create function bluejay_ws.extend(
    p_pod uuid, p_known text[],
    p_reports text[], p_identities text[], p_starts bigint[], p_bodies bytea[], p_ends text[]
) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform 1 from bluejay_ws.reports as report where report.report_id = any (p_known)
        order by report.report_id for update;
    insert into bluejay_ws.chunks (report_id, start, body)
        select given.r, given.s, given.b
        from unnest(p_reports, p_starts, p_bodies) as given (r, s, b)
        join bluejay_ws.reports as report on report.report_id = given.r
        where given.r = any (p_known) and report.received = given.s and octet_length(given.b) > 0
        on conflict do nothing;
    update bluejay_ws.reports as report set
        received = case when report.received = given.s then given.s + octet_length(given.b) else report.received end,
        identity = coalesce(nullif(given.i, ''), report.identity),
        pod_id = p_pod,
        state = case
            when report.state in ('delivered', 'late') then
                case when report.received = given.s and octet_length(given.b) > 0 then 'late' else report.state end
            when report.state in ('live', 'lost') and report.received in (given.s, given.s + octet_length(given.b)) then
                case given.e when '' then 'live' when 'lost' then 'lost' else 'sealed' end
            else report.state end,
        sealed_at = case when given.e = '' then report.sealed_at else coalesce(report.sealed_at, clock_timestamp()) end
        from unnest(p_reports, p_identities, p_starts, p_bodies, p_ends) as given (r, i, s, b, e)
        where report.report_id = given.r and given.r = any (p_known);
    if 'gone' = any (p_ends) then
        with gone as (
            delete from bluejay_ws.reports as report using unnest(p_reports, p_ends) as given (r, e)
            where given.e = 'gone' and report.report_id = given.r and report.state = 'sealed' returning report.report_id
        )
        delete from bluejay_ws.chunks as chunk using gone where chunk.report_id = gone.report_id;
    end if;
end $$;

-- Reports that have come to their end make their calls due, or are held where the id is used up.
create function bluejay_ws.await_delivery(p_destination text, p_reports text[], p_redial interval) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    used_up boolean;
begin
    update bluejay_ws.reports as report set state = 'no_id'
        where report.report_id = any (p_reports) and report.state in ('sealed', 'lost') and report.identity is null;
    with due as (
        insert into bluejay_ws.calls as call (destination, identity, next_at)
            select report.destination, report.identity,
                max(clock_timestamp() + case report.state when 'lost' then p_redial else interval '0' end)
            from bluejay_ws.reports as report
            where report.report_id = any (p_reports) and report.state in ('sealed', 'lost') and report.identity is not null
            group by report.destination, report.identity order by report.destination, report.identity
            on conflict (destination, identity) do update set destination = excluded.destination
            returning call.state
    )
    select bool_or(due.state = 'delivered') into used_up from due;
    if used_up then
        update bluejay_ws.reports as report set state = 'held' from bluejay_ws.calls as call
            where report.report_id = any (p_reports) and report.state in ('sealed', 'lost')
            and call.destination = report.destination and call.identity = report.identity and call.state = 'delivered';
    end if;
    if used_up is not null then
        perform pg_notify('bluejay_ws', p_destination);
    end if;
end $$;

-- An agent's process leaves in good order.
create function bluejay_ws.leave(p_pod uuid) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    update bluejay_ws.pods set left_at = clock_timestamp() where pod_id = p_pod;
$$;

-- Reports of processes that have not been heard of for a whole lease are as complete as they will ever be. A lease
-- does not run while the database itself was away: nobody could renew it then.
create function bluejay_ws.reap(p_lease interval, p_redial interval) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    since timestamptz;
    lost record;
    total bigint := 0;
begin
    update bluejay_ws.fleet as fleet set
        alive_since = case when clock_timestamp() - fleet.seen_at > greatest(p_lease / 3, interval '3 s') then clock_timestamp()
            else fleet.alive_since end,
        seen_at = clock_timestamp()
        where fleet.single returning fleet.alive_since into since;
    for lost in
        with dead as (
            select pod.pod_id from bluejay_ws.pods as pod
            where pod.left_at is not null or clock_timestamp() - greatest(pod.seen_at, since) > p_lease
        ), locked as (
            select report.report_id from bluejay_ws.reports as report join dead on dead.pod_id = report.pod_id
            where report.state = 'live' order by report.report_id for update of report skip locked
        )
        update bluejay_ws.reports as report set state = 'lost', sealed_at = clock_timestamp() from locked
        where report.report_id = locked.report_id returning report.report_id, report.destination
    loop
        total := total + 1;
        perform bluejay_ws.await_delivery(lost.destination, array[lost.report_id], p_redial);
    end loop;
    delete from bluejay_ws.pods as pod where pod.seen_at < clock_timestamp() - interval '1 day'
        and not exists (select from bluejay_ws.reports as report where report.pod_id = pod.pod_id and report.state = 'live');
    return total;
end $$;

-- Give a deliverer one call whose time has come, with everything recorded of it; nothing while the breaker is open or
-- the rate is used up. A call whose lease has run out is given with was = 'sending': it may have been delivered.
create function bluejay_ws.claim(p_destination text, p_holder uuid, p_lease interval, p_retries_first boolean)
returns table (
    identity text, was text, history jsonb, probe boolean, failures integer, age double precision,
    report_id text, report_state text, received bigint, body bytea
)
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    gate bluejay_ws.destinations;
    picked bluejay_ws.calls;
    moment timestamptz := clock_timestamp();
    first_tried boolean := p_retries_first;
    allowed double precision;
    is_probe boolean := false;
begin
    select * into gate from bluejay_ws.destinations as d where d.destination = p_destination;
    if not found then
        insert into bluejay_ws.destinations as d (destination) values (p_destination) on conflict do nothing;
        select * into gate from bluejay_ws.destinations as d where d.destination = p_destination;
    end if;
    if gate.failures >= 3 and gate.open_until > moment then
        return;
    end if;
    for round in 1..2 loop
        if first_tried then
            select * into picked from bluejay_ws.calls as call
                where call.destination = p_destination and call.tried and call.next_at <= moment
                and call.state in ('waiting', 'sending')
                and not exists (select from bluejay_ws.reports as other where other.destination = call.destination
                    and other.identity = call.identity and other.state = 'live')
                order by call.next_at limit 1 for update skip locked;
        else -- the newest first: somebody may be looking at its result
            select * into picked from bluejay_ws.calls as call
                where call.destination = p_destination and not call.tried and call.next_at <= moment
                and call.state in ('waiting', 'sending')
                and not exists (select from bluejay_ws.reports as other where other.destination = call.destination
                    and other.identity = call.identity and other.state = 'live')
                order by call.next_at desc limit 1 for update skip locked;
        end if;
        exit when found;
        first_tried := not first_tried;
    end loop;
    if picked.identity is null then
        return;
    end if;
    if gate.failures >= 3 then
        update bluejay_ws.destinations as d set open_until = moment + p_lease
            where d.destination = p_destination and d.failures >= 3 and d.open_until <= moment;
        if not found then
            return;
        end if;
        is_probe := true;
    elsif gate.rate is not null or gate.recovered_at > moment - interval '10 seconds' then
        allowed := least(coalesce(gate.rate, 'infinity'), case when gate.recovered_at > moment - interval '10 seconds'
            then 5 * 2 ^ extract(epoch from moment - gate.recovered_at) else 'infinity' end);
        update bluejay_ws.destinations as d set
            tokens = least(greatest(allowed, 1), d.tokens + allowed * extract(epoch from moment - d.filled_at)) - 1,
            filled_at = moment
            where d.destination = p_destination
            and d.tokens + allowed * extract(epoch from moment - d.filled_at) >= 1;
        if not found then
            return;
        end if;
    end if;
    update bluejay_ws.calls as call set state = 'sending', holder = p_holder, next_at = moment + p_lease, tried = true
        where call.destination = p_destination and call.identity = picked.identity;
    return query
        select picked.identity, picked.state, picked.history, is_probe, coalesce(gate.failures, 0),
            extract(epoch from moment - picked.created_at)::double precision,
            report.report_id, report.state, report.received,
            coalesce(string_agg(chunk.body, ''::bytea order by chunk.start), ''::bytea)
        from (values (1)) as always left join bluejay_ws.reports as report
            on report.destination = p_destination and report.identity = picked.identity
            and report.state in ('sealed', 'lost')
        left join bluejay_ws.chunks as chunk on chunk.report_id = report.report_id
        group by report.report_id order by report.opened_at, report.report_id;
end $$;

-- Keep the leases of what is being sent.
create function bluejay_ws.renew(p_destination text, p_holder uuid, p_identities text[], p_lease interval) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    kept bigint;
begin
    update bluejay_ws.calls as call set next_at = clock_timestamp() + p_lease
        where call.destination = p_destination and call.identity = any (p_identities)
        and call.holder = p_holder and call.state = 'sending';
    get diagnostics kept = row_count;
    return kept;
end $$;

-- Write down what came of a delivery. What was delivered is delivered, whoever holds the lease by now; everything
-- else counts only while the lease is ours. Returns whether it counted.
create function bluejay_ws.settle(
    p_destination text, p_identity text, p_holder uuid, p_state text, p_wait interval, p_history jsonb,
    p_reason text, p_detail text, p_reports text[], p_received bigint[]
) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if p_state = 'delivered' then
        perform 1 from bluejay_ws.reports as report where report.destination = p_destination
            and report.identity = p_identity order by report.report_id for update;
        delete from bluejay_ws.chunks as chunk using unnest(p_reports, p_received) as sent (r, n)
            where chunk.report_id = sent.r and chunk.start < sent.n;
        update bluejay_ws.reports as report set
            state = case when report.received > sent.n or report.state = 'live' then 'late' else 'delivered' end
            from unnest(p_reports, p_received) as sent (r, n)
            where report.report_id = sent.r and report.state <> 'late';
        update bluejay_ws.reports as report set state = 'held'
            where report.destination = p_destination and report.identity = p_identity
            and report.state in ('sealed', 'lost');
        update bluejay_ws.calls as call set state = 'delivered', holder = null, settled_at = clock_timestamp(),
            history = p_history, reason = p_reason, detail = '', report_ids = call.report_ids || p_reports
            where call.destination = p_destination and call.identity = p_identity;
        return found;
    end if;
    update bluejay_ws.calls as call set state = p_state, holder = null, next_at = clock_timestamp() + p_wait,
        history = p_history, reason = p_reason, detail = p_detail, settled_at = clock_timestamp()
        where call.destination = p_destination and call.identity = p_identity and call.holder = p_holder
        and call.state = 'sending';
    return found;
end $$;

-- Say what an attempt has shown of the platform as a whole. The third failure in a row opens the breaker; after each
-- of its probes that fails the wait doubles, to half a minute.
create function bluejay_ws.hear(p_destination text, p_down boolean, p_probe boolean, p_wait interval) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    update bluejay_ws.destinations as d set
        failures = case when p_down then d.failures + 1 else 0 end,
        open_until = clock_timestamp()
            + case when p_down and d.failures >= 2
                then least(p_wait * 2 ^ least(d.failures - 2, 10), interval '30 s') else interval '0' end,
        recovered_at = case when p_down then null when d.failures >= 3 then clock_timestamp() else d.recovered_at end,
        tokens = 1, filled_at = clock_timestamp()
        where d.destination = p_destination
        and case when p_down then p_probe or d.open_until <= clock_timestamp() else d.failures > 0 end;
    if found and not p_down then
        perform pg_notify('bluejay_ws', p_destination);
    end if;
end $$;

-- Remove what is old, a batch at a time, by one deliverer at a time.
create function bluejay_ws.tidy(p_delivered interval, p_parked interval, p_batch integer) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
    removed bigint;
    total bigint;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('bluejay_ws.tidy', 0)) then
        return 0;
    end if;
    delete from bluejay_ws.calls where ctid = any (array(
        select old.ctid from bluejay_ws.calls as old
        where old.state = 'delivered' and old.settled_at < clock_timestamp() - p_delivered
        order by old.settled_at limit p_batch for update skip locked));
    get diagnostics total = row_count;
    delete from bluejay_ws.reports where ctid = any (array(
        select old.ctid from bluejay_ws.reports as old
        where old.state = 'delivered' and old.sealed_at < clock_timestamp() - p_delivered
        order by old.sealed_at limit p_batch for update skip locked));
    get diagnostics removed = row_count;
    total := total + removed;
    with old as (
        delete from bluejay_ws.reports where ctid = any (array(
            select stuck.ctid from bluejay_ws.reports as stuck
            where stuck.state in ('held', 'late', 'no_id') and stuck.sealed_at < clock_timestamp() - p_parked
            order by stuck.sealed_at limit p_batch for update skip locked))
        returning report_id
    ), bodies as (
        delete from bluejay_ws.chunks as chunk using old where chunk.report_id = old.report_id
    )
    select count(*) into removed from old;
    total := total + removed;
    with old as (
        delete from bluejay_ws.calls where ctid = any (array(
            select parked.ctid from bluejay_ws.calls as parked
            where parked.state in ('held', 'parked') and parked.settled_at < clock_timestamp() - p_parked
            limit p_batch for update skip locked))
        returning destination, identity
    ), parts as (
        delete from bluejay_ws.reports as report using old
        where report.destination = old.destination and report.identity = old.identity returning report.report_id
    ), bodies as (
        delete from bluejay_ws.chunks as chunk using parts where chunk.report_id = parts.report_id
    )
    select count(*) into removed from old;
    return total + removed;
end $$;

revoke all on all functions in schema bluejay_ws from public;

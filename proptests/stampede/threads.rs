//! A round of threads.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use retry_machine::drive::{Attempt, CancelHandle, Request, SendResult, Step, blocking};
use retry_machine::{Action, Idempotency, TransportErrorKind};

use crate::REQUESTS;
use crate::account::{Account, Chaos, Deed, STORM, policy};
use crate::flextell::server::{Grant, Server};

type Api = blocking::Api<Grant>;

pub fn round(server: &Server, seed: u64, chaos: Chaos) {
    let account = Arc::new(Account::new(server, seed, chaos));
    let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
    let (overtakes, overtaken) = mpsc::channel();
    let api = login(server, &account, &agent, overtakes);
    // The cancel handles of requests that lead.
    let leaders = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let start = |_| {
            let builder = thread::Builder::new().stack_size(256 * 1024);
            builder.spawn_scoped(scope, || request(&api, &account, &agent, &leaders)).unwrap()
        };
        let threads: Vec<_> = (0..REQUESTS).map(start).collect();
        let begun = Instant::now();
        while account.chaos == Chaos::All && begun.elapsed() < STORM {
            let deed = overtaken.recv_timeout(account.calm()).map_or_else(|_| account.deed(), |()| Deed::LogIn);
            match deed {
                Deed::LogIn => api.token_replaced(account.log_in(server)),
                Deed::LogOut => api.token_removed(),
                Deed::Expire => account.expire_newest(server),
            }
            for leader in leaders.lock().unwrap().drain(..) {
                if account.chance(40) {
                    CancelHandle::cancel(&leader);
                }
            }
        }
        for thread in threads {
            assert!(thread.join().is_ok() || account.chaos == Chaos::All, "a request panicked");
        }
    });
    // A refresh that exceeded its leases may be under way still. Its outcome must not hurt.
    account.settle(server);
}

fn login(server: &Server, account: &Arc<Account>, agent: &ureq::Agent, overtakes: mpsc::Sender<()>) -> Api {
    let (keeper, agent, overtakes) = (account.clone(), agent.clone(), Mutex::new(overtakes));
    let refresh = move |refresh: blocking::Refresh<Grant>| {
        let account = &keeper;
        let fate = account.fate();
        account.begins(refresh.generation(), refresh.token());
        thread::sleep(fate.before);
        assert!(!fate.panics, "a refresh panics on purpose");
        let form = Account::form(refresh.token());
        account.calls(refresh.generation());
        // K9: the refresh calls through its own handle.
        let answer = refresh.api().call(Idempotency::NonIdempotent, |attempt| {
            let request = agent.post(format!("{}/oauth/token", account.url));
            let answer = request.send(&form).map_err(|error| (TransportErrorKind::Broken, error))?;
            Ok::<_, (_, ureq::Error)>((attempt.read(answer.status().as_u16(), answer.headers()), answer))
        });
        let mut answer = match answer {
            Ok(answer) => answer.response,
            Err(error) => {
                account.gives_up(refresh.token());
                error.response.unwrap()
            }
        };
        let answer = answer.body_mut().read_to_vec().unwrap();
        if fate.is_overtaken {
            let _ = overtakes.lock().unwrap().send(());
        }
        thread::sleep(fate.after);
        Account::token_of(&answer)
    };
    blocking::Api::new(policy()).with_login(Some(account.log_in(server)), refresh)
}

fn request(api: &Api, account: &Account, agent: &ureq::Agent, leaders: &Mutex<Vec<CancelHandle>>) {
    if account.chaos == Chaos::All {
        thread::sleep(account.millis(1_800));
    }
    let cancel = CancelHandle::new();
    let mut observer = |step: &Step| {
        if let Action::RefreshToken { .. } = step.action {
            leaders.lock().unwrap().push(cancel.clone());
            // K5: a panic comes between no lease and its refresh.
            assert!(!account.chance(10), "a request panics on purpose");
        }
    };
    let request =
        Request::new(Idempotency::Idempotent).limits(account.limits()).cancelled_by(&cancel).observed_by(&mut observer);
    let result = api.call(request, |attempt| send(&attempt, account, agent));
    account.judge(&result);
}

fn send(attempt: &Attempt<Grant>, account: &Account, agent: &ureq::Agent) -> SendResult<u16, ureq::Error> {
    let bearer = account.bearer(attempt.generation(), attempt.token());
    let request = agent.get(format!("{}/stampede/threads", account.url)).header("Authorization", bearer);
    let response = request.call().map_err(|error| (TransportErrorKind::Broken, error))?;
    let status = response.status().as_u16();
    Ok((attempt.read(status, response.headers()), status))
}

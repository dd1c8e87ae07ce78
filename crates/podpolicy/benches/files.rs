//! How fast policies are applied to manifests in files: 5,000 Deployments, each in a file of its own and all in ten files. Beside it, in the same
//! run: reading the same bytes, parsing them with the same YAML library, and yq making the same changes.
//!
//! `just bench` runs it. It prints; it judges nothing. Every figure is of a whole process, as the system accounts for it: the median of several
//! rounds, in which all take turns. `BENCH_DEPLOYMENTS` and `BENCH_FILE_ROUNDS` say how many of each there are; yq is left out where `BENCH_YQ` is
//! not its path.

#![allow(clippy::print_stdout, missing_docs, reason = "a benchmark prints its figures")]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use granit_parser::Parser;
use nix::sys::resource::{UsageWho, getrusage};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

const POLICY: &str = "apiVersion: podpolicy.dev/v1alpha1
kind: ClusterPodPolicy
metadata: {name: standard}
spec:
  selector: {}
  labels: {team: shop}
  annotations: {example.com/oncall: shop@example.com}
  terminationGracePeriodSeconds: 60
  containers:
  - readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 5}
";

/// The same for yq.
const EXPRESSION: &str = r#"
  .spec.template.metadata.labels.team = (.spec.template.metadata.labels.team // "shop") |
  .spec.template.metadata.annotations."example.com/oncall" = (.spec.template.metadata.annotations."example.com/oncall" // "shop@example.com") |
  .spec.template.spec.terminationGracePeriodSeconds = (.spec.template.spec.terminationGracePeriodSeconds // 60) |
  .spec.template.spec.containers[] |= (.readinessProbe = (.readinessProbe // {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5}))
"#;

/// What a process took.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Took {
    wall_ms: f64,
    cpu_ms: f64,
    peak_mib: f64,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--measure", cores, command @ ..] => measure(*cores == "one", command),
        ["--read", folder] => read(Path::new(folder)).map(drop),
        ["--parse", folder] => parse(Path::new(folder)),
        ["--values", folder] => values(Path::new(folder)),
        _ => compare(),
    }
}

fn compare() -> anyhow::Result<()> {
    let (deployments, rounds) = (number("BENCH_DEPLOYMENTS", 5000)?, number("BENCH_FILE_ROUNDS", 5)?);
    let folder = TempDir::new()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("policy.yaml"), POLICY)?;
    fs::create_dir(path("small"))?;
    fs::write(path("small/a.yaml"), deployment(0))?;
    let me = env::current_exe()?.display().to_string();
    let podpolicy = env!("CARGO_BIN_EXE_podpolicy").to_owned();
    let yq = env::var("BENCH_YQ").ok();
    for (name, files) in [("5,000 files in a folder", deployments), ("ten files", 10)] {
        let input = path(&format!("in-{files}"));
        let bytes = write(Path::new(&input), deployments, files)?;
        println!("\n{deployments} Deployments, {name}: {:.1} MB, median of {rounds} rounds", mega(bytes));
        let mut commands = vec![
            ("read", "all", vec![me.clone(), "--read".to_owned(), input.clone()]),
            ("parse", "one", vec![me.clone(), "--parse".to_owned(), input.clone()]),
            ("parse to values", "one", vec![me.clone(), "--values".to_owned(), input.clone()]),
        ];
        for (title, command, cores) in
            [("render, one core", "render", "one"), ("render", "render", "all"), ("diff, one core", "diff", "one"), ("diff", "diff", "all")]
        {
            commands.push((title, cores, [podpolicy.as_str(), command, "-p", &path("policy.yaml"), &input].map(str::to_owned).to_vec()));
        }
        if let Some(yq) = &yq {
            let inputs = paths(Path::new(&input))?.into_iter().map(|path| path.display().to_string());
            commands.push(("yq", "all", [yq.clone(), EXPRESSION.to_owned()].into_iter().chain(inputs).collect()));
        }
        table(&me, &commands, rounds)?;
    }
    println!("\none small file, median of {} rounds", rounds * 10);
    let command = [podpolicy.as_str(), "render", "-p", &path("policy.yaml"), &path("small/a.yaml")].map(str::to_owned).to_vec();
    table(&me, &[("read", "all", vec![me.clone(), "--read".to_owned(), path("small")]), ("render", "all", command)], rounds * 10)
}

type Line = (&'static str, &'static str, Vec<String>);

fn table(me: &str, commands: &[Line], rounds: usize) -> anyhow::Result<()> {
    let mut figures: BTreeMap<&str, Vec<Took>> = BTreeMap::new();
    // The first round warms up.
    for round in 0..=rounds {
        for (title, cores, command) in commands {
            let took = run(me, cores, command).with_context(|| (*title).to_owned())?;
            if round > 0 {
                figures.entry(title).or_default().push(took);
            }
        }
    }
    let median = |title: &str, of: fn(&Took) -> f64| {
        let mut figures: Vec<_> = figures[title].iter().map(of).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let base = commands.iter().find(|(title, ..)| *title == "parse").map(|_| median("parse", |took| took.wall_ms));
    println!("{:<18}{:>10}{:>10}{:>11}{:>14}", "", "wall ms", "cpu ms", "peak MiB", "wall / parse");
    for (title, ..) in commands {
        let wall = median(title, |took| took.wall_ms);
        let ratio = base.map_or_else(String::new, |base| format!("{:.2}", wall / base));
        println!(
            "{title:<18}{wall:>10.1}{:>10.1}{:>11.1}{ratio:>14}",
            median(title, |took| took.cpu_ms),
            median(title, |took| took.peak_mib)
        );
    }
    Ok(())
}

/// Runs a command in a process that runs nothing else, so that what the system accounts for is the command's.
fn run(me: &str, cores: &str, command: &[String]) -> anyhow::Result<Took> {
    let output = Command::new(me).args(["--measure", cores]).args(command).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn measure(one_core: bool, command: &[&str]) -> anyhow::Result<()> {
    if one_core {
        let mut cores = CpuSet::new();
        cores.set(0);
        sched_setaffinity(None, &cores)?;
    }
    let [program, arguments @ ..] = command else { anyhow::bail!("no command") };
    let mut child = Command::new(program);
    child.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let started = Instant::now();
    let status = child.status()?;
    let wall_ms = started.elapsed().as_secs_f64() * 1e3;
    let is_diff = arguments.first() == Some(&"diff");
    // One with differences ends with 1.
    ensure!(status.code() == Some(i32::from(is_diff)), "{program} ended with {status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let ms = |time: nix::sys::time::TimeVal| {
        mega(u64::try_from(time.tv_sec()).unwrap_or_default() * 1_000_000_000)
            + mega(u64::try_from(time.tv_usec()).unwrap_or_default() * 1000)
    };
    let peak_mib = mega(u64::try_from(usage.max_rss()).unwrap_or_default() * 1_000_000) / 1024.0;
    let took = Took { wall_ms, cpu_ms: ms(usage.user_time()) + ms(usage.system_time()), peak_mib };
    println!("{}", serde_json::to_string(&took)?);
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn mega(number: u64) -> f64 {
    number as f64 / 1e6
}

/// The number in an environment variable, or the default.
fn number(variable: &str, default: usize) -> anyhow::Result<usize> {
    env::var(variable).map_or(Ok(default), |text| text.parse().with_context(|| format!("{variable}={text} is not a number")))
}

/// The files of a folder, in order.
fn paths(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn read(folder: &Path) -> anyhow::Result<Vec<String>> {
    paths(folder)?.iter().map(|path| Ok(fs::read_to_string(path)?)).collect()
}

/// Reads and parses, and keeps nothing.
fn parse(folder: &Path) -> anyhow::Result<()> {
    let mut events = 0;
    for path in paths(folder)? {
        for event in Parser::new_from_str(&fs::read_to_string(path)?) {
            event?;
            events += 1;
        }
    }
    ensure!(events > 0, "nothing was parsed");
    Ok(())
}

/// Reads and parses into values, and keeps nothing.
fn values(folder: &Path) -> anyhow::Result<()> {
    let mut documents = 0;
    for path in paths(folder)? {
        documents += serde_saphyr::from_multiple::<serde_json::Value>(&fs::read_to_string(path)?)?.len();
    }
    ensure!(documents > 0, "nothing was parsed");
    Ok(())
}

/// Writes so many Deployments into so many files; how many bytes that are is returned.
fn write(folder: &Path, deployments: usize, files: usize) -> anyhow::Result<u64> {
    fs::create_dir(folder)?;
    let mut bytes = 0;
    for file in 0..files {
        let numbers = (0..deployments).filter(|number| number % files == file);
        let text = numbers.map(deployment).collect::<Vec<_>>().join("---\n");
        bytes += text.len() as u64;
        fs::write(folder.join(format!("{file:05}.yaml")), text)?;
    }
    Ok(bytes)
}

fn deployment(number: usize) -> String {
    format!(
        "# Service {number}, kept by team {team}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web-{number}
  namespace: shop
  labels:
    app.kubernetes.io/name: web-{number}
    app.kubernetes.io/part-of: shop
spec:
  replicas: {replicas}
  selector:
    matchLabels:
      app.kubernetes.io/name: web-{number}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: web-{number}
        app.kubernetes.io/version: \"1.{number}.0\"
      annotations:
        prometheus.io/scrape: \"true\"
    spec:
      serviceAccountName: web
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: web
        image: registry.example.com/shop/web-{number}:1.{number}.0  # set by CI
        args:
        - --listen=:8080
        - --log-level=info
        env:
        - name: DATABASE_URL
          valueFrom:
            secretKeyRef:
              name: web-{number}
              key: database-url
        - {{name: REGION, value: eu-{replicas}}}
        ports:
        - name: http
          containerPort: 8080
        livenessProbe:
          httpGet:
            path: /healthz
            port: http
        resources:
          requests:
            cpu: 100m
            memory: 128Mi
          limits:
            memory: 256Mi
        volumeMounts:
        - name: config
          mountPath: /etc/web
      # Rolled out by hand.
      volumes:
      - name: config
        configMap:
          name: web-{number}
",
        team = number % 17,
        replicas = number % 4 + 1,
    )
}

//! `make bench`.
use std::time::Instant;
use flotilla_bench::*;
fn main() -> anyhow::Result<()> {
    let t0 = Instant::now();
    let mut bed = Testbed::create(Lifetime::Process)?;
    let hub = bed.host("registry")?;
    let registry = Registry::start(&hub)?;
    let hosts: Vec<_> = (1..=5).map(|n| bed.host(&format!("n{n}"))).collect::<anyhow::Result<_>>()?;
    println!("hosts {:?}", t0.elapsed());
    let mut builder = ImageBuilder::new(&bed.directory().join("image"))?;
    let layers = [96u64, 80, 60, 40, 25, 8].iter().map(|m| builder.layer(m << 20)).collect::<anyhow::Result<Vec<_>>>()?;
    for l in &layers { println!("{} {}", l.digest, l.size); }
    let image = builder.image(&layers)?;
    println!("built {:?} {}", t0.elapsed(), image.blob_bytes);
    let reference = image.push(&registry, "demo/app", "1")?;
    println!("pushed {:?}", t0.elapsed());
    let mut engines = hosts.iter().map(|h| DockerEngine::start(h, &EngineOptions::direct(&registry))).collect::<anyhow::Result<Vec<_>>>()?;
    for e in &mut engines { e.wait_ready()?; e.login(&registry.address(), registry.login())?; }
    println!("engines {:?}", t0.elapsed());
    for h in hosts.iter().chain([&hub]) { h.shape(LinkRate::megabits(100))?; }
    let before = registry.traffic()?;
    std::thread::scope(|s| {
        let hs: Vec<_> = engines.iter().map(|e| s.spawn(|| e.pull(&reference))).collect();
        for h in hs { println!("pull {:?}", h.join()); }
    });
    println!("{:?} {}", registry.traffic()?.since(&before), image.blob_bytes * 5);
    println!("ids {:?}", engines.iter().map(|e| e.image_id(&reference)).collect::<Vec<_>>());
    println!("{:?}", hub.interface_bytes());
    println!("done {:?}", t0.elapsed());
    drop(engines);
    let t = Instant::now();
    drop(bed);
    println!("cleared {:?}", t.elapsed());
    Ok(())
}

//! New connections by each scheduler, with few and many real servers.

use anyhow::Result;
use dpdk::Eal;
use weir_config::model::Scheduler;

use crate::recorder::Recorder;
use crate::rig::Rig;
use crate::traffic::{Flow, Kind};

const FLOWS: u64 = 1 << 16;

/// Every scheduler.
pub(super) fn schedulers(recorder: &mut Recorder, eal: Option<&Eal>, _: usize) -> Result<()> {
    for servers in [10u32, 100] {
        for scheduler in Scheduler::ALL.map(Scheduler::name) {
            let mut text = format!(
                "[connections]\ncapacity = {}\n[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/16\"]\n\
                 [[virtual_server]]\nname = \"s\"\naddress = \"10.0.0.100\"\nport = 80\nscheduler = \"{scheduler}\"\n",
                FLOWS * 2
            );
            for n in 0..servers {
                text += &format!(
                    "[[virtual_server.real_server]]\naddress = \"10.0.{}.{}\"\nweight = 3\n",
                    1 + n / 200,
                    1 + n % 200
                );
            }
            for n in 0..servers {
                text += &format!(
                    "[[neighbor]]\naddress = \"10.0.{}.{}\"\nmac = \"02:00:00:00:01:{n:02x}\"\n",
                    1 + n / 200,
                    1 + n % 200
                );
            }
            let mut rig = Rig::new(recorder, eal, &text)?;
            rig.step(&format!("new connections, {scheduler} over {servers} real servers"));
            rig.send(Kind::First, (0..FLOWS).map(Flow::of_one));
            rig.check()?;
        }
    }
    Ok(())
}

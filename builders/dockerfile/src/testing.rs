//! Tests of what a source built: in containers of the engine that has the image.

use async_trait::async_trait;
use kiln_core::{Artifact, BuildContext, Decoded, Diagnostics, Failure, OutputSink, Test, TestEnd, Tester};
use kiln_docker::services::trial::Bench;
use kiln_services::trial::check_test;

use crate::builder::DockerfileBuilder;

#[async_trait]
impl Tester for DockerfileBuilder {
    fn check(&self, test: &Test, decoded: &Decoded, diagnostics: &mut Diagnostics) {
        // A Dockerfile is built by itself: these sources have no services.
        check_test(test, &[], decoded, diagnostics);
    }

    async fn run(
        &self,
        artifact: &Artifact,
        test: &Test,
        sink: &mut dyn OutputSink,
        context: &BuildContext,
    ) -> Result<TestEnd, Failure> {
        let bench = Bench {
            engine: &self.settings.engine,
            image: artifact.image().map(|image| image.id.as_str()).unwrap_or_default(),
            services: &[],
            images: &[],
            home: self.settings.home.clone(),
        };
        bench.run(test, sink, context).await
    }
}

FROM base

# A program from elsewhere is used when it is the one that was looked at.
ARG MINIFY_SHA256
COPY files/minify /usr/local/bin/minify
RUN echo "${MINIFY_SHA256}  /usr/local/bin/minify" | sha256sum --check --strict

# In the app's build, where its directory is the context.
ONBUILD COPY . /app
ONBUILD RUN minify /app/assets/*.css
ONBUILD RUN python3 -m compileall -q /app
ONBUILD ARG release_name
ONBUILD RUN printf '%s\n' "${release_name:?is the name of the release}" > /app/version_label
ONBUILD USER app

FROM base

# In the app's build, where its directory is the context.
ONBUILD COPY . /app
ONBUILD RUN python3 -m compileall -q /app
ONBUILD ARG release_name
ONBUILD RUN printf '%s\n' "${release_name:?is the name of the release}" > /app/version_label
ONBUILD USER app

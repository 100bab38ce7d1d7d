# A static binary on nothing: about 50 MB, no shell, not root.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /patchbay ./cmd/web

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /patchbay /patchbay
ENV LISTEN=0.0.0.0:8080
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/patchbay", "healthcheck"]
# What is under way when the container is stopped is finished and saved: give it 60 s (docker stop -t 60).
STOPSIGNAL SIGTERM
ENTRYPOINT ["/patchbay"]
CMD ["serve"]
